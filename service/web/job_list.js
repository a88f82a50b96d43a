/** The list of one's jobs, kept by the service: it is the same after a reload and in another tab. */

import { getJson } from './api.js';
import { byId, el, when } from './dom.js';
import { badge, isActive, removalButton } from './jobs.js';

const ACTIVE_WAIT = 5; // s between two looks while a job waits or runs
const IDLE_WAIT = 60;

let timer = null;
let open = null; // the id of the job that the page shows

/** Marks the job that the page shows. */
export function markOpen(id) {
  open = id;
  for (const item of byId('job-list').children) mark(item);
}

function mark(item) {
  const link = item.querySelector('a');
  if (item.dataset.id === open) link.setAttribute('aria-current', 'page');
  else link.removeAttribute('aria-current');
}

/** Asks for the list, and again after a while. `gone(id)` is called when the user removed a job here. */
export async function loadJobs(gone) {
  clearTimeout(timer);
  let wait = IDLE_WAIT;
  try {
    const { jobs } = await getJson('v1/jobs');
    render(jobs, gone);
    if (jobs.some(isActive)) wait = ACTIVE_WAIT;
  } catch (problem) {
    if (problem.status === 401) return; // the key's form begins anew
    byId('job-list-note').textContent = 'The list could not be loaded.';
  }
  const again = () => loadJobs(gone);
  timer = setTimeout(() => (document.hidden ? document.addEventListener('visibilitychange', again, { once: true }) : again()), wait * 1000);
}

/** The list anew where it changed; the focus stays on the same control. */
function render(jobs, gone) {
  byId('job-list-note').textContent = jobs.length === 0 ? 'None yet.' : '';
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
