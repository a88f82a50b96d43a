/**
 * What the page shows follows its address: `#job/ID` is that job, anything else the form for a new one; `#check/ID` is
 * that with a file that was checked.
 */

import { key } from './api.js';
import { announce, byId, focusOn } from './dom.js';
import { loadJobs, markOpen } from './job_list.js';
import { followJob } from './job_view.js';
import { loadModels } from './models.js';
import { goOn, offerModels, startNewJobs } from './new_job.js';

const TITLE = document.title;

let following = null; // AbortController of the job that is shown

const jobInAddress = () => /^#job\/([\w-]+)$/.exec(location.hash)?.[1] ?? null;

/** Shows what the address says. `moved`: by the user, so the focus goes there too. */
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

/** A removed job leaves the list, and the page where that shows it. */
function jobGone(id) {
  announce('Deleted.');
  reloadJobs();
  if (id === jobInAddress()) location.hash = '#new';
  else focusOn(byId('jobs-title'));
}

/** Everything that asks the service; again after a key was given. */
function load() {
  loadModels((models) => {
    offerModels(models);
    goOn();
  });
  reloadJobs();
  route({ moved: false });
}

function askForKey(wasRefused) {
  if (!byId('key-form').hidden) return;
  byId('key-form').hidden = false;
  byId('key-error').textContent = wasRefused ? 'The service does not know this key.' : '';
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

// The skip link must not change the address, which names the job.
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
