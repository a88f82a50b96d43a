/** The list of the user's jobs. The service stores it, so a reload or another tab shows the same list. */

import { getJson } from './api.js';
import { byId, el, when } from './dom.js';
import { badge, isActive, removalButton } from './jobs.js';

const ACTIVE_WAIT = 5; // seconds between two requests while a job is queued or running
const IDLE_WAIT = 60;
const PAGE = 50; // jobs that one request loads

let timer = null;
let open = null; // id of the shown job
let pages = 1; // number of shown pages

/** Marks the shown job in the list. */
export function markOpen(id) {
  open = id;
  for (const item of byId('job-list').children) mark(item);
}

function mark(item) {
  const link = item.querySelector('a');
  if (item.dataset.id === open) link.setAttribute('aria-current', 'page');
  else link.removeAttribute('aria-current');
}

/** Loads the list now and at intervals. `gone(id)` is called when the user deleted a job in the list. */
export async function loadJobs(gone) {
  clearTimeout(timer);
  let wait = IDLE_WAIT;
  try {
    const { jobs, next } = await shownJobs();
    render(jobs, gone);
    const more = byId('job-list-more');
    more.hidden = next === null;
    more.onclick = () => {
      pages += 1;
      loadJobs(gone);
    };
    if (jobs.some(isActive)) wait = ACTIVE_WAIT;
  } catch (problem) {
    if (problem.status === 401) return; // the form for the key loads the list again
    byId('job-list-note').textContent = 'The list of jobs could not be loaded.';
  }
  const again = () => loadJobs(gone);
  timer = setTimeout(() => (document.hidden ? document.addEventListener('visibilitychange', again, { once: true }) : again()), wait * 1000);
}

/** The jobs of the shown pages, and the cursor of the page behind them. */
async function shownJobs() {
  const jobs = [];
  let next = null;
  for (let page = 0; page < pages; page += 1) {
    const answer = await getJson(`v1/jobs?limit=${PAGE}${next === null ? '' : `&cursor=${encodeURIComponent(next)}`}`);
    jobs.push(...answer.jobs);
    next = answer.next ?? null;
    if (next === null) break;
  }
  return { jobs, next };
}

/** Renders the list if it changed. The focus stays on the same control. */
function render(jobs, gone) {
  byId('job-list-note').textContent = jobs.length === 0 ? 'No jobs yet.' : '';
  const list = byId('job-list');
  const seen = JSON.stringify(jobs.map((job) => [job.id, job.state]));
  if (list.dataset.seen === seen) return;
  list.dataset.seen = seen;
  const held = list.contains(document.activeElement) ? document.activeElement : null;
  list.replaceChildren(...jobs.map((job) => row(job, gone)));
  if (held === null) return;
  const item = [...list.children].find((candidate) => candidate.dataset.id === held.closest('li').dataset.id);
  item?.querySelector(held.tagName)?.focus({ preventScroll: true });
}

function row(job, gone) {
  const link = el(
    'a',
    { href: `#job/${job.id}` },
    el('span', { class: 'filename', title: job.name }, job.name),
    el('span', { class: 'line' }, badge(job.state), el('span', { class: 'small' }, when(job.created, { short: true }))),
  );
  const item = el('li', { 'data-id': job.id }, link, removalButton(job, gone, { short: true }));
  mark(item);
  return item;
}
