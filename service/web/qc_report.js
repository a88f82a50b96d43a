/** The QC report: how much of a file the model can use, what was repaired, what is left out and why. */

import { count, counted, el, facts, percent, table } from './dom.js';
import { alleleFrequencies, typedDensities } from './figures.js';

const SHOWN_NOTES = 200;

const USED = { matched: 'Alleles as in the panel' };
const REPAIRED = {
  swapped: 'REF and ALT swapped',
  flipped: 'On the other strand',
  flipped_swapped: 'On the other strand, REF and ALT swapped',
  ambiguous_resolved: 'A/T or C/G, strand told by frequency',
};
const LEFT_OUT = {
  ambiguous_left_out: 'A/T or C/G, strand unknown',
  allele_mismatch: 'Other alleles than the panel',
  not_in_panel: 'Not in the panel',
  duplicate: 'A second record of a site',
};
const MEANING = { ...USED, ...REPAIRED, ...LEFT_OUT };

const total = (counts, statuses) => Object.keys(statuses).reduce((sum, status) => sum + (counts[status] ?? 0), 0);

/** `qc`: the summary, with `sites` (the first notes), `density` and `frequencies` where they are to be shown. */
export function qcReport(qc) {
  const parts = [
    ['used', 'as they are', total(qc.counts, USED)],
    ['repaired', 'repaired', total(qc.counts, REPAIRED)],
    ['left', 'left out', total(qc.counts, LEFT_OUT)],
  ];
  const figures = [
    ...(qc.n_used > 0 ? typedDensities(qc.density ?? []) : []),
    qc.frequencies?.n_sites > 0 && alleleFrequencies(qc.frequencies, qc.n_samples),
  ].filter(Boolean);
  return el(
    'div',
    { class: 'report' },
    figuresOf(qc),
    shareBar(parts),
    remarks(qc),
    statusTable(qc.counts),
    figures.length > 0 && el('div', { class: 'figures loose' }, figures),
    Array.isArray(qc.sites) && qc.sites.length > 0 && notesTable(qc),
  );
}

function figuresOf(qc) {
  const used = qc.n_used > 0; // of no site there is no share
  return facts([
    ['Samples', count(qc.n_samples) + (qc.n_haploid > 0 ? ` (${count(qc.n_haploid)} haploid)` : '')],
    ['Sites in the file', count(qc.n_target_sites)],
    ['Sites used', `${count(qc.n_used)} (${percent(qc.overlap_share)})`],
    ['Typed density', `${count(qc.typed_per_mb)} per Mb`],
    ['Genome build', qc.n_shared_positions > 0 ? `alleles agree at ${percent(qc.build_agreement)}` : null],
    ['Missing calls', used ? percent(qc.missing_rate) + (qc.missing_rate > 0 ? `, worst sample ${percent(qc.worst_missing_rate)}` : '') : null],
    ['Phased sites', used ? percent(qc.phased_share) : null],
    ['Allele frequencies', qc.frequencies?.correlation ? `r ${qc.frequencies.correlation.toFixed(3)} with the panel` : null],
  ]);
}

/** The file's sites as one bar of three parts, with a legend that carries the numbers. */
function shareBar(parts) {
  const all = parts.reduce((sum, [, , n]) => sum + n, 0);
  if (all === 0) return null;
  const bar = el('div', { class: 'share-bar', 'aria-hidden': 'true' });
  for (const [kind, , n] of parts) {
    if (n === 0) continue;
    const part = el('span', { class: kind });
    part.style.flexGrow = n; // set as a property: the policy for styles refuses the attribute
    bar.append(part);
  }
  const legend = parts.map(([kind, words, n]) =>
    el('li', {}, el('span', { class: `swatch ${kind}`, 'aria-hidden': 'true' }), `${counted(n, 'site')} ${words} (${percent(n / all)})`),
  );
  return el('div', {}, bar, el('ul', { class: 'legend' }, legend));
}

/** What a user should know before starting, if anything. */
function remarks(qc) {
  const found = [];
  const mirrored = qc.frequencies?.n_mirrored ?? 0;
  if (qc.overlap_share < 0.5) found.push('Fewer than half of the file’s sites are in the panel: is it of this genome build?');
  if (mirrored > 0) found.push(`${counted(mirrored, 'site')} ${mirrored === 1 ? 'has' : 'have'} the frequency of the other allele: REF and ALT, or the strand, may be wrong there.`);
  if (qc.phased_share < 1 && !qc.refused) found.push('Some calls are unphased. They are imputed as they are; no phasing is needed before.');
  if (qc.n_doubled > 0) found.push(`${counted(qc.n_doubled, 'sample')} diploid and never heterozygous on X between its PARs: males written so are imputed as females.`);
  const absent = Object.keys(qc.absent ?? {});
  if (absent.length > 0) found.push(`Left out, the model has no chromosome ${absent.join(', ')}.`);
  if (qc.n_much_missing > 0) found.push(`${counted(qc.n_much_missing, 'sample')} with more than 5 % missing calls: imputed with less certainty.`);
  return found.length > 0 && el('ul', { class: 'remarks' }, found.map((text) => el('li', {}, text)));
}

function statusTable(counts) {
  const fates = [['used', USED], ['repaired', REPAIRED], ['left out', LEFT_OUT]];
  const rows = fates.flatMap(([fate, statuses]) =>
    Object.entries(statuses)
      .filter(([status]) => counts[status] > 0)
      .map(([status, words]) => [words, fate, count(counts[status])]),
  );
  return rows.length > 0 && table('What became of the file’s sites', ['Sites', 'Fate', 'Number'], rows, { numeric: [2], tall: true });
}

function notesTable(qc) {
  const shown = qc.sites.slice(0, SHOWN_NOTES);
  const rows = shown.map((note) => [
    `${note.chrom}:${note.pos}`,
    `${note.ref}>${note.alt}`,
    note.panel_ref === '.' ? '–' : `${note.panel_ref}>${note.panel_alt}`,
    MEANING[note.status] ?? note.status,
    note.reason,
  ]);
  const listed = total(qc.counts, { ...REPAIRED, ...LEFT_OUT });
  const more = listed > shown.length && el('p', { class: 'hint' }, `The first ${count(shown.length)} of ${count(listed)}; a finished job has the whole table.`);
  const columns = ['Site', 'In the file', 'In the panel', 'What', 'Why'];
  return el('details', {}, el('summary', {}, `Repaired and left-out sites (${count(listed)})`), table('Repaired and left-out sites', columns, rows), more);
}
