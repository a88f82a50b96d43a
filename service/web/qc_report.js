/** The QC report: which sites of a file the model can use, which were repaired, and which are excluded and why. */

import { count, counted, el, facts, percent, table } from './dom.js';
import { alleleFrequencies, typedDensities } from './figures.js';

const SHOWN_NOTES = 200;

const USED = { matched: 'Same alleles as the panel' };
const REPAIRED = {
  swapped: 'REF and ALT swapped',
  flipped: 'On the other strand',
  flipped_swapped: 'On the other strand, REF and ALT swapped',
  ambiguous_resolved: 'A/T or C/G, strand determined by frequency',
};
const EXCLUDED = {
  ambiguous_left_out: 'A/T or C/G, strand unknown',
  allele_mismatch: 'Different alleles than the panel',
  not_in_panel: 'Not in the panel',
  duplicate: 'Second record of the same site',
};
const MEANING = { ...USED, ...REPAIRED, ...EXCLUDED, unlifted: 'Not lifted over' };

const total = (counts, statuses) => Object.keys(statuses).reduce((sum, status) => sum + (counts[status] ?? 0), 0);

/** The report of a QC summary. `sites`, `density` and `frequencies` are shown if `qc` has them. */
export function qcReport(qc) {
  const parts = [
    ['used', 'used unchanged', total(qc.counts, USED)],
    ['repaired', 'repaired', total(qc.counts, REPAIRED)],
    ['left', 'excluded', total(qc.counts, EXCLUDED)],
  ];
  const figures = [
    ...(qc.n_used > 0 ? typedDensities(qc.density ?? []) : []),
    qc.frequencies?.n_sites > 0 && alleleFrequencies(qc.frequencies, qc.n_samples),
  ].filter(Boolean);
  return el(
    'div',
    { class: 'report' },
    figuresOf(qc),
    partsBar(parts),
    remarks(qc),
    statusTable(qc.counts),
    figures.length > 0 && el('div', { class: 'figures loose' }, figures),
    Array.isArray(qc.sites) && qc.sites.length > 0 && notesTable(qc),
  );
}

function figuresOf(qc) {
  const used = qc.n_used > 0; // without used sites there are no rates
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

/** A bar of the file's sites in three parts, with a legend that has the numbers. */
function partsBar(parts) {
  const all = parts.reduce((sum, [, , n]) => sum + n, 0);
  if (all === 0) return null;
  const bar = el('div', { class: 'parts-bar', 'aria-hidden': 'true' });
  for (const [kind, , n] of parts) {
    if (n === 0) continue;
    const part = el('span', { class: kind });
    part.style.flexGrow = n; // set as a property, because the page's policy forbids style attributes
    bar.append(part);
  }
  const legend = parts.map(([kind, words, n]) =>
    el('li', {}, el('span', { class: `swatch ${kind}`, 'aria-hidden': 'true' }), `${counted(n, 'site')} ${words} (${percent(n / all)})`),
  );
  return el('div', {}, bar, el('ul', { class: 'legend' }, legend));
}

/** Why records are excluded, after their number. */
const EXCLUDED_RECORDS = {
  position: 'at positions that no panel has',
  ref_invalid: 'with a REF that is no sequence',
  symbolic_alt: 'with symbolic alleles',
  duplicate_records: 'that repeat another record',
  no_genotypes: 'without genotypes',
  mixed_ploidy: 'with calls of another ploidy',
};

/** Why sites are not lifted over, after their number. */
const UNLIFTED = {
  no_chromosome: 'on chromosomes that the chain file lacks',
  no_block: 'at positions that the chain file does not cover',
  several_blocks: 'at positions with several places in the panel’s build',
  split: 'with a REF that is divided in the panel’s build',
  other_chromosome: 'on another chromosome in the panel’s build',
  reverse_indel: 'with indels on the reverse strand',
  same_position: 'that share a position in the panel’s build',
  reference_block: 'within reference blocks',
};

/** Remarks that a user should read before starting, if any. */
function remarks(qc) {
  const found = [];
  const mirrored = qc.frequencies?.n_mirrored ?? 0;
  if (qc.overlap_share < 0.5) found.push('Fewer than half of the file’s sites are in the panel. Check that the file and the panel have the same genome build.');
  if (qc.mirrored?.length > 0) found.push(`The allele frequencies mirror the panel’s on chromosome ${qc.mirrored.join(', ')}. The genotypes are probably inverted: check which allele the file counts.`);
  else if (mirrored > 0) found.push(`${counted(mirrored, 'site')} ${mirrored === 1 ? 'has' : 'have'} the frequency of the other allele: REF and ALT may be swapped, or the strand may be wrong.`);
  if (qc.phased_share < 1 && !qc.refused) found.push('Some calls are unphased. The model imputes them without prior phasing.');
  if (qc.n_doubled > 0) found.push(`${counted(qc.n_doubled, 'sample')} ${qc.n_doubled === 1 ? 'is' : 'are'} coded as diploid and never heterozygous on X outside the PARs. Males coded this way are imputed as females.`);
  const { lifted = 0, ...unlifted } = qc.lift ?? {};
  const reasons = Object.entries(unlifted).map(([reason, n]) => `${count(n)} ${UNLIFTED[reason] ?? reason}`);
  if (lifted > 0) found.push(`${counted(lifted, 'site')} ${lifted === 1 ? 'was' : 'were'} lifted over to the panel’s genome build.`);
  if (reasons.length > 0) found.push(`Sites that cannot be lifted over are excluded: ${reasons.join(', ')}.`);
  const unusable = Object.entries(qc.excluded_records ?? {});
  if (unusable.length > 0) found.push(`Records that cannot be used are excluded: ${unusable.map(([reason, n]) => `${n} ${EXCLUDED_RECORDS[reason] ?? reason}`).join(', ')}.`);
  if (qc.n_half_calls > 0) found.push(`${counted(qc.n_half_calls, 'unphased call')} ${qc.n_half_calls === 1 ? 'has' : 'have'} one missing allele. Phased samples do not use ${qc.n_half_calls === 1 ? 'it' : 'them'}.`);
  const absent = Object.keys(qc.absent ?? {});
  if (absent.length > 0) found.push(`Excluded chromosomes, which the model does not cover: ${absent.join(', ')}.`);
  if (qc.n_much_missing > 0) found.push(`${counted(qc.n_much_missing, 'sample')} ${qc.n_much_missing === 1 ? 'has' : 'have'} more than 5 % missing calls and will be imputed less accurately.`);
  return found.length > 0 && el('ul', { class: 'remarks' }, found.map((text) => el('li', {}, text)));
}

function statusTable(counts) {
  const results = [['used', USED], ['repaired', REPAIRED], ['excluded', EXCLUDED]];
  const rows = results.flatMap(([result, statuses]) =>
    Object.entries(statuses)
      .filter(([status]) => counts[status] > 0)
      .map(([status, words]) => [words, result, count(counts[status])]),
  );
  return rows.length > 0 && table('Sites of the file by result of the check', ['Sites', 'Result', 'Number'], rows, { numeric: [2], tall: true });
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
  const { lifted, ...unlifted } = qc.lift ?? {};
  const listed = total(qc.counts, { ...REPAIRED, ...EXCLUDED }) + total(unlifted, unlifted);
  const more = listed > shown.length && el('p', { class: 'hint' }, `The first ${count(shown.length)} of ${count(listed)} sites. A finished job has the complete table.`);
  const columns = ['Site', 'In the file', 'In the panel', 'Result', 'Reason'];
  return el('details', {}, el('summary', {}, `Repaired and excluded sites (${count(listed)})`), table('Repaired and excluded sites', columns, rows), more);
}
