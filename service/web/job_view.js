/** The view of one job: its progress while it is queued or running, its figures and files when it is done. */

import { Problem, download, getJson, key } from './api.js';
import { announce, byId, count, counted, duration, el, facts, fileSize, focusOn, percent, when } from './dom.js';
import { genotypeCertainty, qualityByMaf, qualityDistribution, typedDensities } from './figures.js';
import { STATES, badge, isActive, pathOf, removalButton } from './jobs.js';
import { notice } from './notice.js';
import { qcReport } from './qc_report.js';

const FIRST_WAIT = 0.4; // seconds between two requests
const MAX_WAIT = 5;
const HIDDEN_WAIT = 15; // while the tab is hidden
const MAX_UNREACHABLE_WAIT = 20;
const ANNOUNCED_STEP = 0.25; // fraction of progress between two announcements to screen readers

/**
 * Follows a job until `signal` aborts. `changed(job)` is called at every new state, `gone(id)` after the job was deleted.
 * With `focus` the focus moves to the job.
 */
export async function followJob(id, { signal, focus, changed, gone }) {
  const place = byId('job');
  place.replaceChildren(el('p', { class: 'hint' }, 'Loading the job…'));
  const view = { place, focus, state: null, attempt: null, announced: -1, since: null, gone };
  let wait = FIRST_WAIT;
  while (!signal.aborted) {
    try {
      const job = await getJson(pathOf(id), signal);
      byId('trouble').replaceChildren();
      if (job.state !== view.state || job.attempt !== view.attempt) {
        show(view, job);
        changed(job);
        wait = FIRST_WAIT;
      }
      if (!isActive(job)) return;
      showProgress(view, job);
      wait = Math.min(wait * 1.3, MAX_WAIT);
    } catch (problem) {
      if (signal.aborted || problem.status === 401) return;
      if (!(problem instanceof Problem)) throw problem;
      if (!problem.passing) {
        place.replaceChildren(notice(problem, { title: problem.code === 'job_unknown' ? 'There is no such job' : null }));
        focusOn(place.querySelector('h2'));
        return;
      }
      wait = Math.min(Math.max(wait * 2, problem.retryAfter ?? 0), MAX_UNREACHABLE_WAIT);
      showTrouble(problem, wait);
    }
    await pause(document.hidden ? HIDDEN_WAIT : wait, signal);
  }
}

/** Resolves after `seconds`, or earlier if the tab becomes visible, the user asks, or `signal` aborts. */
function pause(seconds, signal) {
  return new Promise((resolve) => {
    const inner = new AbortController();
    const end = () => {
      clearTimeout(timer);
      inner.abort();
      resolve();
    };
    const timer = setTimeout(end, seconds * 1000);
    signal.addEventListener('abort', end, { signal: inner.signal });
    window.addEventListener('look-now', end, { signal: inner.signal });
    window.addEventListener('online', end, { signal: inner.signal });
    document.addEventListener('visibilitychange', () => document.hidden || end(), { signal: inner.signal });
  });
}

/** Shows a connection problem above the job. The job view stays unchanged; the job itself continues. */
function showTrouble(problem, wait) {
  const box = byId('trouble');
  if (box.childElementCount === 0) {
    const now = () => window.dispatchEvent(new Event('look-now'));
    box.replaceChildren(notice(problem, { retry: now }), el('p', { class: 'hint' }));
  }
  box.lastElementChild.textContent = `Trying again in ${duration(wait)}. The job continues on the service.`;
}

/** Renders the view of a job's state. If the focused control disappears, the focus moves to the heading. */
function show(view, job) {
  const focus = view.place.contains(document.activeElement) || (view.state === null && view.focus);
  view.state = job.state;
  view.attempt = job.attempt;
  view.announced = -1;
  view.since = null;
  const heading = el('h1', {}, el('span', { class: 'filename' }, job.name));
  const parts = { queued: waiting, running: waiting, done: results, failed: failure }[job.state] ?? ending;
  view.place.replaceChildren(
    el('div', { class: 'job-head' }, heading, badge(job.state)),
    ...[parts(job), details(job), el('div', { class: 'actions' }, removalButton(job, view.gone))].flat().filter(Boolean),
  );
  if (focus) focusOn(heading);
  announce(`${job.name}: ${STATES[job.state]}`);
  document.title = `${STATES[job.state]} · ${job.name} · vcfbert`;
}

function waiting(job) {
  return [
    el('div', { class: 'progress' }, el('progress', { max: 1, 'aria-labelledby': 'job-progress' }), el('span', { id: 'job-progress' })),
    job.attempt > 1 && el('p', { class: 'hint' }, `Attempt ${job.attempt}: the previous attempt was interrupted.`),
    el('p', { class: 'hint' }, 'You can close this page. Its address leads back to the job.'),
  ];
}

function showProgress(view, job) {
  const bar = view.place.querySelector('progress');
  const { done, total, share } = job.progress ?? {};
  const running = job.state === 'running' && total > 0;
  if (running) bar.value = share;
  else bar.removeAttribute('value');
  const text = running ? `${percent(share)}: ${count(done)} of ${counted(total, 'site')}${timeLeft(view, share)}` : queueText(job);
  byId('job-progress').textContent = text;
  if (running) document.title = `${Math.floor(share * 100)} % · ${job.name} · vcfbert`;
  const step = running ? Math.floor(share / ANNOUNCED_STEP) : -1;
  if (step > view.announced) {
    view.announced = step;
    if (step > 0) announce(`${job.name}: ${Math.round(share * 100)} % done`);
  }
}

/** Estimates the remaining time from the progress since the page was opened; '' while it is too early. */
function timeLeft(view, share) {
  const now = performance.now();
  view.since ??= { now, share };
  const seconds = (now - view.since.now) / 1000;
  if (seconds < 5 || share <= view.since.share) return '';
  return `, about ${duration(((1 - share) * seconds) / (share - view.since.share))} left`;
}

function queueText(job) {
  if (job.state === 'running') return 'Reading the file…';
  if (!(job.position > 1)) return 'Next in the queue';
  return `Number ${count(job.position)} in the queue`;
}

const failure = (job) => [
  notice({ ...job.error, status: 422 }, { title: 'The imputation failed', tone: 'bad' }),
  job.qc && inputQuality(job),
];

const inputQuality = (job) =>
  el('section', { 'aria-labelledby': 'qc-title' }, el('h2', { id: 'qc-title' }, 'Quality of the input'), qcReport({ ...job.qc, density: null }));

function ending(job) {
  const texts = { expired: 'The retention time is over: the files of this job are deleted.', cancelled: 'The job was cancelled and its files are deleted.' };
  return el('p', {}, texts[job.state]);
}

function results(job) {
  const { summary, qc } = job;
  const excluded = summary?.n_left_out > 0 ? ` ${counted(summary.n_left_out, 'site')} below the minimum DR2 excluded.` : '';
  return [
    summary && el('p', {}, `${counted(summary.n_samples, 'sample')} imputed at ${counted(summary.n_sites, 'site')} in ${duration(job.timings.running_s)}.${excluded}`),
    downloads(job),
    summary &&
      el(
        'section',
        { 'aria-labelledby': 'figures-title' },
        el('h2', { id: 'figures-title' }, 'Figures'),
        el(
          'div',
          { class: 'figures' },
          qualityByMaf(summary.dr2_by_maf, summary.n_samples),
          qualityDistribution(summary.dr2_histogram),
          genotypeCertainty(summary.gq_histogram),
          ...typedDensities(summary.density),
        ),
      ),
    qc && inputQuality(job),
  ];
}

/** The files of a finished job. With an access key the page fetches them, because a link cannot send the key. */
function downloads(job) {
  const base = pathOf(job.id);
  const bcf = job.options.format === 'bcf';
  const stem = job.name.replace(/(\.vcf|\.bcf)?(\.gz|\.bgz)?$/i, '') || 'target';
  const result = `${stem}.imputed.${bcf ? 'bcf' : 'vcf.gz'}`;
  const files = [
    ['result', result, bcf ? 'Imputed BCF' : 'Imputed VCF.gz', 'main'],
    ['result/index', `${result}.${bcf ? 'csi' : 'tbi'}`, 'Index'],
    ['qc', `${stem}.qc.json`, 'QC summary (JSON)'],
    ['qc/sites', `${stem}.qc.tsv`, 'QC sites (TSV)'],
    ['report', `${stem}.report.json`, 'Report (JSON)'],
  ];
  const trouble = el('div', {});
  const item = ([part, name, label, kind]) => {
    const fetched = async (event) => {
      if (key.get() === null) return;
      event.preventDefault();
      announce(`Downloading ${name}`);
      try {
        await download(`${base}/${part}`, name);
        trouble.replaceChildren();
      } catch (problem) {
        trouble.replaceChildren(notice(problem));
      }
    };
    return el('li', {}, el('a', { class: kind === 'main' ? 'button main' : 'button', href: `${base}/${part}`, download: name, onclick: fetched }, label));
  };
  return el(
    'section',
    { 'aria-labelledby': 'downloads-title' },
    el('h2', { id: 'downloads-title' }, 'Files'),
    el('ul', { class: 'downloads' }, files.map(item)),
    job.expires && el('p', { class: 'hint' }, 'Kept until ', when(job.expires), '.'),
    trouble,
  );
}

function details(job) {
  const { model, options, timings } = job;
  const name = model.version ? `${model.alias}, version ${model.version}` : model.alias;
  return el(
    'details',
    { class: 'about' },
    el('summary', {}, 'About this job'),
    facts([
      ['Job', el('span', { class: 'code' }, job.id)],
      ['Submitted', when(job.created)],
      ['File size', fileSize(job.size)],
      ['Model', model.variant ? `${name} (${model.variant.toUpperCase()})` : name],
      ['Region', options.region ?? 'whole panel'],
      ['Lifted over by', options.chain ?? null],
      ['Format', `${options.format}; ${options.fields.join(', ')}`],
      ['Minimum DR2', options.min_dr2 > 0 ? options.min_dr2 : 'none'],
      ['Time in queue', timings?.queued_s === null || timings?.queued_s === undefined ? null : duration(timings.queued_s)],
    ]),
  );
}
