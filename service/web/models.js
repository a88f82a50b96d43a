/** The served models. The page asks until there is one, because a service loads its model after it starts. */

import { getJson } from './api.js';
import { byId, count, el, facts } from './dom.js';
import { notice } from './notice.js';

const FIRST_WAIT = 1; // seconds
const MAX_WAIT = 15;

let known = [];
let missing = []; // configured models that are not served: {alias, reason}
let offered = [];
let timer = null;

/** The name of a model in requests. */
export const nameOf = (model) => model.alias;

/** Returns the model of that name, else the first model; null before a model is loaded. */
export const modelNamed = (name) => known.find((model) => nameOf(model) === name) ?? known[0] ?? null;

/** Shows the models and calls `ready(models, chains)` once there is at least one. `chains`: names of chain files. */
export async function loadModels(ready, wait = FIRST_WAIT) {
  clearTimeout(timer);
  const again = () => loadModels(ready, Math.min(wait * 1.5, MAX_WAIT));
  try {
    const { models, unavailable, chains = [] } = await getJson('v1/models');
    known = models;
    missing = unavailable;
    offered = chains;
    if (known.length === 0) await getJson('readyz'); // answers 503 with the reason
  } catch (problem) {
    if (problem.status === 401) return; // the form for the key loads the models again
    byId('models').replaceChildren(notice(problem, { retry: again, tone: 'warn' }));
    if (problem.passing) timer = setTimeout(again, wait * 1000);
    return;
  }
  if (known.length === 0) {
    timer = setTimeout(again, wait * 1000);
    return;
  }
  const notes = missing.map((model) => el('p', { class: 'hint' }, `Model ${model.alias} is not available: ${model.reason}`));
  byId('models').replaceChildren(...known.map(card), ...notes);
  ready(known, offered);
}

function card(model) {
  // A bundle of a folder is shown by its alias: the page does not reveal paths of the server.
  const name = model.reference.startsWith('models:/') ? model.reference.slice('models:/'.length) : nameOf(model);
  const r2 = model.metrics?.['val/r2/all'];
  const stale = model.stale && el('p', { class: 'hint' }, `The model registry does not answer. This is the newest version that the service has. ${model.reason ?? ''}`);
  return el(
    'div',
    { class: 'model' },
    facts([
      ['Name', el('span', { class: 'code' }, name)],
      ['Version', el('span', { class: 'code' }, model.version)],
      ['Variant', model.variant.toUpperCase()],
      ['Region', el('span', { class: 'code' }, regionsOf(model))],
      ['Panel', `${count(model.n_sites)} sites, ${count(model.n_haplotypes)} haplotypes`],
      ['Validation', r2 === undefined ? null : `dosage r² ${r2.toFixed(3)}`],
    ]),
    stale,
  );
}

const SHOWN_REGIONS = 3;

/** Formats the regions that the model covers, as CHROM:FROM-TO. */
export function regionsOf(model) {
  const shown = model.regions.slice(0, SHOWN_REGIONS).map((one) => `${one.chrom}:${one.from}-${one.to}`);
  const more = model.regions.length - shown.length;
  return shown.join(', ') + (more > 0 ? ` and ${more} more` : '');
}
