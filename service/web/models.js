/** Which models answer: asked until there is one, since a service that starts loads it first. */

import { getJson } from './api.js';
import { byId, count, el, facts } from './dom.js';
import { notice } from './notice.js';

const FIRST_WAIT = 1; // s
const LONGEST_WAIT = 15;

let known = [];
let missing = []; // what should be served and is not: {alias, reason}
let timer = null;

/** The name by which a request asks for a model. */
export const nameOf = (model) => model.alias;

/** The model of that name, the first one if none is named; null before any is loaded. */
export const modelNamed = (name) => known.find((model) => nameOf(model) === name) ?? known[0] ?? null;

/** Shows the models and calls `ready(models)` once there are any. */
export async function loadModels(ready, wait = FIRST_WAIT) {
  clearTimeout(timer);
  const again = () => loadModels(ready, Math.min(wait * 1.5, LONGEST_WAIT));
  try {
    const { models, unavailable } = await getJson('v1/models');
    known = models;
    missing = unavailable;
    if (known.length === 0) await getJson('readyz'); // answers 503 with the reason
  } catch (problem) {
    if (problem.status === 401) return; // the key's form begins anew
    byId('models').replaceChildren(notice(problem, { retry: again, tone: 'warn' }));
    if (problem.passing) timer = setTimeout(again, wait * 1000);
    return;
  }
  if (known.length === 0) {
    timer = setTimeout(again, wait * 1000);
    return;
  }
  const notes = missing.map((model) => el('p', { class: 'hint' }, `${model.alias} is not served: ${model.reason}`));
  byId('models').replaceChildren(...known.map(card), ...notes);
  ready(known);
}

function card(model) {
  // A bundle served from a folder is named by its alias: the folder is nobody's business.
  const name = model.reference.startsWith('models:/') ? model.reference.slice('models:/'.length) : nameOf(model);
  const r2 = model.metrics?.['val/r2/all'];
  const stale = model.stale && el('p', { class: 'hint' }, `The registry did not answer; this is the newest version at hand. ${model.reason ?? ''}`);
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

/** What the model covers, as regions can be written: CHROM:FROM-TO. */
export function regionsOf(model) {
  const shown = model.regions.slice(0, SHOWN_REGIONS).map((one) => `${one.chrom}:${one.from}-${one.to}`);
  const more = model.regions.length - shown.length;
  return shown.join(', ') + (more > 0 ? ` and ${more} more` : '');
}
