/** What the view of a job and the list of jobs share: states, and removal after a question. */

import { remove } from './api.js';
import { byId, el } from './dom.js';
import { notice } from './notice.js';

export const STATES = {
  queued: 'Waiting',
  running: 'Running',
  done: 'Done',
  failed: 'Failed',
  cancelled: 'Cancelled',
  expired: 'Expired',
};

export const isActive = (job) => job.state === 'queued' || job.state === 'running';

export const badge = (state) => el('span', { class: `badge ${state}` }, STATES[state]);

export const pathOf = (id) => `v1/jobs/${encodeURIComponent(id)}`;

/** A button that cancels or deletes a job, after a question; `gone()` follows. Trouble is told beside the job. */
export function removalButton(job, gone, { short = false } = {}) {
  const action = isActive(job) ? 'Cancel' : 'Delete';
  const text = isActive(job) ? 'It stops, and its files are deleted.' : 'Its result is deleted for good.';
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

let asked = 0; // questions so far

/** Asks in the page's dialog; true where the user agreed. */
function confirmed(action, title, text) {
  const dialog = byId('question');
  byId('question-title').textContent = title;
  byId('question-text').textContent = text;
  byId('question-yes').textContent = action;
  byId('question-no').textContent = action === 'Cancel' ? 'Let it run' : 'Keep it';
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    const mine = ++asked;
    const answered = () => {
      // A closing is told later: by then the next question may be open, which this one's event says nothing of.
      if (mine === asked && dialog.open) return;
      dialog.removeEventListener('close', answered);
      resolve(mine === asked && dialog.returnValue === 'yes');
    };
    dialog.addEventListener('close', answered);
  });
}
