/**
 * Routes of the page by its address: `#job/ID` shows a job, `#check/ID` the form with a checked file, and anything else
 * the empty form.
 */

import { key } from './api.js';
import { announce, byId, focusOn } from './dom.js';
import { loadJobs, markOpen } from './job_list.js';
import { followJob } from './job_view.js';
import { loadModels } from './models.js';
import { goOn, offerChains, offerModels, startNewJobs } from './new_job.js';

const TITLE = document.title;

let following = null; // AbortController of the requests for the shown job

const jobInAddress = () => /^#job\/([\w-]+)$/.exec(location.hash)?.[1] ?? null;

/** Shows the view of the address. If the user changed the address (`moved`), the focus moves to the view. */
function route({ moved }) {
  following?.abort();
  const id = jobInAddress();
  byId('new').hidden = id !== null;
  byId('job-view').hidden = id === null;
  byId('trouble').replaceChildren();
  markOpen(id);
  if (id === null) {
    document.title = TITLE;
    if (moved) focusOn(byId('new-title'));
    return;
  }
  following = new AbortController();
  followJob(id, { signal: following.signal, focus: moved, changed: reloadJobs, gone: jobGone });
}

const reloadJobs = () => loadJobs(jobGone);

/** Updates the list after a job was deleted, and leaves the job's view if it is open. */
function jobGone(id) {
  announce('Deleted.');
  reloadJobs();
  if (id === jobInAddress()) location.hash = '#new';
  else focusOn(byId('jobs-title'));
}

/** Loads models, jobs and the current view; called at the start and after the user gave a key. */
function load() {
  loadModels((models, chains) => {
    offerModels(models);
    offerChains(chains);
    goOn();
  });
  reloadJobs();
  route({ moved: false });
}

function askForKey(wasRefused) {
  if (!byId('key-form').hidden) return;
  byId('key-form').hidden = false;
  byId('key-error').textContent = wasRefused ? 'This key is not valid.' : '';
  following?.abort();
  byId('key').focus();
}

function startKeyForm() {
  window.addEventListener('key-needed', (event) => askForKey(event.detail));
  byId('key-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const value = byId('key').value.trim();
    if (value === '') return;
    key.set(value);
    byId('key').value = '';
    byId('key-form').hidden = true;
    byId('forget-key').hidden = false;
    load();
    focusOn(byId('content'));
  });
  byId('forget-key').hidden = key.get() === null;
  byId('forget-key').addEventListener('click', () => {
    key.forget();
    location.reload();
  });
}

// The skip link must not change the address, because the address names the view.
byId('skip').addEventListener('click', (event) => {
  event.preventDefault();
  focusOn(byId('content'));
});
window.addEventListener('hashchange', () => route({ moved: true }));
startKeyForm();
startNewJobs((job) => {
  location.hash = `#job/${job.id}`;
});
load();
