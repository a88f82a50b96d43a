/** Parts shared by the view of a job and the list of jobs: states, and deletion after confirmation. */

import { remove } from './api.js';
import { byId, el } from './dom.js';
import { notice } from './notice.js';

export const STATES = {
  queued: 'Queued',
  running: 'Running',
  done: 'Done',
  failed: 'Failed',
  cancelled: 'Cancelled',
  expired: 'Expired',
};

export const isActive = (job) => job.state === 'queued' || job.state === 'running';

export const badge = (state) => el('span', { class: `badge ${state}` }, STATES[state]);

export const pathOf = (id) => `v1/jobs/${encodeURIComponent(id)}`;

/** A button that cancels or deletes a job after confirmation, then calls `gone(id)`. Errors appear above the job. */
export function removalButton(job, gone, { short = false } = {}) {
  const action = isActive(job) ? 'Cancel' : 'Delete';
  const text = isActive(job) ? 'The job stops and its files are deleted.' : 'The job and its files are deleted permanently.';
  const act = async () => {
    if (!(await confirmed(action, `${action} “${job.name}”?`, text))) return;
    try {
      await remove(pathOf(job.id));
    } catch (problem) {
      if (problem.status !== 404) {
        byId('trouble').replaceChildren(notice(problem, { retry: problem.passing ? act : null }));
        return;
      }
    }
    byId('trouble').replaceChildren();
    gone(job.id);
  };
  const label = short ? [action, el('span', { class: 'spoken' }, ` ${job.name}`)] : [`${action} this job`];
  return el('button', { type: 'button', class: short ? 'quiet' : 'danger', onclick: act }, ...label);
}

let asked = 0; // number of questions asked so far

/** Asks in the page's dialog; resolves to true if the user agreed. */
function confirmed(action, title, text) {
  const dialog = byId('question');
  byId('question-title').textContent = title;
  byId('question-text').textContent = text;
  byId('question-yes').textContent = action;
  byId('question-no').textContent = action === 'Cancel' ? 'Keep running' : 'Keep it';
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    const mine = ++asked;
    const answered = () => {
      // The close event comes late. If the next question is already open, this event is not its answer.
      if (mine === asked && dialog.open) return;
      dialog.removeEventListener('close', answered);
      resolve(mine === asked && dialog.returnValue === 'yes');
    };
    dialog.addEventListener('close', answered);
  });
}
