/** The form for a new job: the user chooses a file, the service checks it, and the user starts the imputation. */

import { post, remove, upload } from './api.js';
import { announce, byId, el, fileSize, focusOn, percent } from './dom.js';
import { modelNamed, nameOf, regionsOf } from './models.js';
import { notice } from './notice.js';
import { qcReport } from './qc_report.js';

const REGION = /^[^\s:]+(:\d+(-\d+)?)?$/;

// The chosen file: {file, name, size, upload}. `upload` is the service's id of the checked file. After a reload of the
// page `file` is null; the id is in the page's address.
let chosen = null;
let sending = null; // AbortController of the current request

/** Connects the form. `started(job)` is called with the accepted job. */
export function startNewJobs(started) {
  const zone = byId('drop');
  const input = byId('file');
  input.addEventListener('change', () => input.files.length > 0 && choose([...input.files]));
  // On the whole page: the browser would open a file that is dropped outside the zone.
  window.addEventListener('dragover', (event) => {
    event.preventDefault();
    zone.classList.add('over');
  });
  window.addEventListener('dragleave', (event) => event.relatedTarget === null && zone.classList.remove('over'));
  window.addEventListener('drop', (event) => {
    event.preventDefault();
    zone.classList.remove('over');
    if (!byId('new').hidden && !input.disabled && event.dataTransfer.files.length > 0) choose([...event.dataTransfer.files]);
  });
  byId('model').addEventListener('change', () => {
    describeRegion();
    if (chosen !== null) check();
  });
  byId('chain').addEventListener('change', () => chosen !== null && check());
  byId('options').addEventListener('submit', (event) => {
    event.preventDefault();
    if (optionsAreValid()) start(started);
  });
  for (const field of [byId('region'), byId('min-dr2')]) field.addEventListener('input', () => showError(field, ''));
}

/** Fills the choice of model, which is hidden if there is only one model. */
export function offerModels(models) {
  const chosen = byId('model').value;
  byId('model').replaceChildren(...models.map((model) => el('option', { value: nameOf(model) }, `${nameOf(model)} (${regionsOf(model)})`)));
  if (models.some((model) => nameOf(model) === chosen)) byId('model').value = chosen;
  byId('model-choice').hidden = models.length < 2;
  describeRegion();
  byId('file').disabled = false;
}

/** Fills the choice of chain files, which is hidden if the service offers none. */
export function offerChains(chains) {
  const chosen = byId('chain').value;
  const names = chains.map((name) => el('option', { value: name }, name));
  byId('chain').replaceChildren(el('option', { value: '' }, 'The panel’s'), ...names);
  if (chains.includes(chosen)) byId('chain').value = chosen;
  byId('chain-choice').hidden = chains.length === 0;
}

/**
 * Continues an interrupted check: of a file that was chosen before the key was given, or of the kept upload that the
 * address names. Does nothing if there is neither.
 */
export function goOn() {
  const upload = uploadInAddress();
  if (chosen === null && upload !== null) chosen = { file: null, name: 'Checked file', size: null, upload };
  if (chosen !== null && byId('qc').childElementCount === 0) check();
}

/** Empties the form except for its options, and deletes the kept upload on the service unless `keep` is true. */
export function clear({ keep = false } = {}) {
  sending?.abort();
  if (chosen?.upload && !keep) remove(`v1/qc/${chosen.upload}`).catch(() => {}); // if this fails, the upload expires by itself
  chosen = null;
  showInAddress(null);
  byId('file').value = '';
  byId('chosen').replaceChildren();
  byId('qc').replaceChildren();
  byId('start').replaceChildren();
  byId('options').hidden = true;
}

const uploadInAddress = () => /^#check\/(\w+)$/.exec(location.hash)?.[1] ?? null;

/** Writes the id of the kept upload into the address, so a reload of the page finds it. */
function showInAddress(upload) {
  if (upload === uploadInAddress()) return;
  history.replaceState(null, '', upload === null ? '#new' : `#check/${upload}`);
}

function describeRegion() {
  const model = modelNamed(byId('model').value);
  byId('region-hint').textContent = `CHROM:FROM-TO within ${regionsOf(model)}. Leave it empty for the whole panel.`;
}

const modelField = () => (byId('model-choice').hidden ? '' : byId('model').value);

function choose(files) {
  clear();
  if (files.length > 1) {
    showRefusal({ code: 'several_files', detail: 'only one file can be checked at a time', hint: 'join several files with bcftools merge' });
    return;
  }
  const [file] = files;
  chosen = { file, name: file.name, size: file.size, upload: null };
  check();
}

function showRefusal(problem) {
  const box = notice(problem, { title: 'This file cannot be imputed', tone: 'bad' });
  byId('qc').replaceChildren(box);
  focusOn(box.querySelector('h2'));
}

/** Has the file checked, and shows the QC report and the options. */
async function check() {
  byId('qc').replaceChildren();
  byId('options').hidden = true;
  const qc = await send('v1/qc', { model: modelField(), chain: byId('chain').value, keep: 'true' }, byId('chosen'), 'Checking', check, byId('qc'));
  if (qc === null) return;
  if (qc.upload) {
    chosen = { file: chosen.file, name: qc.upload.name, size: qc.upload.size, upload: qc.upload.id };
    byId('chosen').replaceChildren(nameLine());
  }
  showInAddress(chosen.upload);
  if (qc.refused) showRefusal({ ...qc.refused, status: 422 });
  if (qc.counts) byId('qc').append(el('h2', {}, 'Quality of the input'), qcReport(qc));
  if (qc.refused) return;
  byId('options').hidden = false;
  byId('start').replaceChildren();
  focusOn(byId('qc').querySelector('h2'));
  announce('The file was checked and can be imputed.');
}

async function start(started) {
  const options = new FormData(byId('options'));
  const fields = {
    model: modelField(),
    chain: byId('chain').value,
    region: options.get('region').trim(),
    format: options.get('format'),
    fields: ['GT', ...options.getAll('fields')].join(','),
    min_dr2: Number(options.get('min_dr2')) > 0 ? options.get('min_dr2') : '',
  };
  const submit = byId('submit');
  submit.disabled = true;
  const job = await send('v1/jobs', fields, byId('start'), 'Sending', () => start(started), byId('start'));
  submit.disabled = false;
  if (job === null) return;
  clear({ keep: true }); // the job has it
  started(job);
}

const nameLine = () =>
  el('p', { class: 'chosen' }, el('span', { class: 'filename' }, chosen.name), chosen.size === null ? '' : ` · ${fileSize(chosen.size)}`);

/**
 * Sends the chosen file and returns the service's response. Returns null if there is none, and shows the reason in
 * `refusals`. `place` shows the progress and a button that stops the request.
 */
async function send(path, fields, place, verb, again, refusals) {
  sending?.abort();
  const mine = new AbortController();
  sending = mine;
  const bar = el('progress', { max: 1, 'aria-label': `${verb} ${chosen.name}` });
  const state = el('span', { class: 'hint' }, `${verb}…`);
  const stop = el('button', { type: 'button', class: 'quiet', onclick: () => mine.abort() }, 'Stop');
  const name = nameLine();
  place.replaceChildren(name, el('div', { class: 'progress' }, bar, state, stop));
  announce(`${verb} ${chosen.name}`);
  const sent = (fraction) => {
    if (fraction < 1) bar.value = fraction;
    else bar.removeAttribute('value'); // uploaded; the rest takes an unknown time
    state.textContent = fraction < 1 ? `Uploading, ${percent(fraction)}` : `${verb}…`;
  };
  try {
    const answer = await sendOnce(path, fields, sent, mine.signal);
    place.replaceChildren(name);
    return answer;
  } catch (problem) {
    if (sending !== mine) return null; // the user has chosen another file
    place.replaceChildren(name);
    if (problem.name === 'AbortError') {
      announce('Stopped.');
      refusals.append(el('p', {}, el('button', { type: 'button', onclick: again }, 'Continue')));
    } else if (problem.code === 'upload_unknown') {
      forget();
    } else if (problem.status !== 401) {
      refuse(problem, again, refusals);
    }
    return null;
  }
}

/** Sends the id of the kept upload, or the file itself if the service does not have the upload. */
async function sendOnce(path, fields, sent, signal) {
  if (chosen.upload !== null) {
    try {
      return await post(path, { ...fields, upload: chosen.upload }, signal);
    } catch (problem) {
      if (problem.code !== 'upload_unknown' || chosen.file === null) throw problem;
      chosen.upload = null;
    }
  }
  return upload(path, chosen.file, fields, { sent, signal });
}

/** Handles a reload of the page after the kept upload has expired. */
function forget() {
  clear({ keep: true });
  const title = 'The checked file has expired';
  const problem = { status: 404, code: 'upload_unknown', detail: 'the service keeps a checked file for a limited time', hint: 'choose the file again' };
  const box = notice(problem, { title, tone: 'warn' });
  byId('qc').replaceChildren(box);
  focusOn(box.querySelector('h2'));
}

function refuse(problem, again, place) {
  const box = notice(problem, { retry: problem.passing ? again : null });
  const report = problem.qc?.counts ? [qcReport(problem.qc)] : [];
  place.replaceChildren(box, ...report);
  focusOn(box.querySelector('h2'));
}

function optionsAreValid() {
  const [region, dr2] = [byId('region'), byId('min-dr2')];
  const regionIsWrong = region.value.trim() !== '' && !REGION.test(region.value.trim());
  showError(region, regionIsWrong ? 'Enter a region as CHROM:FROM-TO, for example 20:1000000-1500000.' : '');
  const dr2IsWrong = dr2.validity.badInput || dr2.validity.rangeUnderflow || dr2.validity.rangeOverflow;
  showError(dr2, dr2IsWrong ? 'Enter a number from 0 to 1.' : '');
  const wrong = regionIsWrong ? region : dr2IsWrong ? dr2 : null;
  wrong?.focus();
  return wrong === null;
}

/** Shows an error below the field; '' removes it. */
function showError(field, text) {
  byId(`${field.id}-error`).textContent = text;
  if (text !== '') field.setAttribute('aria-invalid', 'true');
  else field.removeAttribute('aria-invalid');
}
