/** Figures as SVG, drawn for their width on the page, each with a table of its numbers. */

import { count, counted, el, percent, shape, table } from './dom.js';

const HEIGHT = 200; // CSS pixels, axis labels included
const MAX_SCATTER = 300; // CSS pixels, width and height of a scatter plot
const MARGIN = { top: 22, right: 16, bottom: 40, left: 46 };

/** Returns round counts from 0 to at least `largest` in about four steps. */
function ticks(largest) {
  if (!(largest > 0)) return [0, 1];
  const rough = largest / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max([1, 2, 5, 10].find((factor) => factor * power >= rough) * power, 1);
  const steps = Math.ceil(largest / step - 1e-9);
  return Array.from({ length: steps + 1 }, (_, i) => i * step);
}

/** Draws the frame of a plot: the y axis with its grid and labels, the base line, and the names of both axes. */
function frame(width, yTicks, yText, { xName, yName, height = HEIGHT }) {
  const plot = { left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: height - MARGIN.bottom };
  const top = yTicks.at(-1);
  const y = (value) => plot.bottom - (value / top) * (plot.bottom - plot.top);
  const svg = shape('svg', { width, height, viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true' });
  for (const value of yTicks) {
    svg.append(
      shape('line', { class: value === 0 ? 'axis' : 'grid', x1: plot.left, x2: plot.right, y1: y(value), y2: y(value) }),
      shape('text', { class: 'tick', x: plot.left - 6, y: y(value) + 4, 'text-anchor': 'end' }, yText(value)),
    );
  }
  svg.append(
    shape('text', { class: 'name', x: 0, y: 11 }, yName),
    shape('text', { class: 'name', x: (plot.left + plot.right) / 2, y: height - 4, 'text-anchor': 'middle' }, xName),
  );
  return { svg, plot, y };
}

const label = (x, y, text, anchor = 'middle', kind = 'tick') =>
  shape('text', { class: kind, x, y, 'text-anchor': anchor }, text);

/** Draws ticks and labels of the x axis at `values`; `x` maps a value to pixels. */
function markAxis(svg, plot, values, x) {
  const decimals = Math.max(...values.map((value) => (String(Number(value.toFixed(3))).split('.')[1] ?? '').length));
  for (const value of values) {
    svg.append(
      shape('line', { class: 'axis', x1: x(value), x2: x(value), y1: plot.bottom, y2: plot.bottom + 4 }),
      label(x(value), plot.bottom + 16, value.toFixed(decimals)),
    );
  }
}

const mean = (value) => value.toFixed(2);

const total = (bins) => bins.reduce((sum, bin) => sum + bin.n, 0);

/** Draws one bar per category, {name, value, text}. A `value` of null shows the text without a bar. */
function drawCategories(width, bars, { yTicks, yText, xName, yName }) {
  const { svg, plot, y } = frame(width, yTicks, yText, { xName, yName });
  const step = (plot.right - plot.left) / bars.length;
  const thickness = Math.min(step * 0.64, 64);
  bars.forEach(({ name, value, text }, i) => {
    const middle = plot.left + step * (i + 0.5);
    if (value === null) {
      svg.append(label(middle, plot.bottom - 5, text));
    } else {
      const height = plot.bottom - y(value);
      svg.append(
        shape('rect', { class: 'bar', x: middle - thickness / 2, y: y(value), width: thickness, height }),
        label(middle, y(value) - 5, text, 'middle', 'value'),
      );
    }
    svg.append(label(middle, plot.bottom + 15, name));
  });
  return svg;
}

/** Draws counts of equal bins from `low` to `high`. The y axis starts at 0. */
function drawHistogram(width, counts, { low, high, xTicks, xName, yName }) {
  const { svg, plot, y } = frame(width, ticks(Math.max(...counts)), compact, { xName, yName });
  const step = (plot.right - plot.left) / counts.length;
  counts.forEach((n, i) => {
    const rect = { class: 'bar', x: plot.left + step * i + 0.5, y: y(n), width: Math.max(step - 1, 0.5) };
    if (n > 0) svg.append(shape('rect', { ...rect, height: plot.bottom - y(n) }));
  });
  const x = (value) => plot.left + ((value - low) / (high - low)) * (plot.right - plot.left);
  markAxis(svg, plot, xTicks(plot.right - plot.left), x);
  return svg;
}

/** Draws fractions from 0 to 1 against each other: points {x, y, n}, the diagonal, and rings at the `marked` points. */
function drawScatter(width, points, marked, { xName, yName }) {
  const side = Math.min(width, MAX_SCATTER);
  const fractions = [0, 0.25, 0.5, 0.75, 1];
  const { svg, plot, y } = frame(side, fractions, mean, { xName, yName, height: side });
  const x = (value) => plot.left + value * (plot.right - plot.left);
  svg.append(shape('line', { class: 'axis', x1: x(0), y1: y(0), x2: x(1), y2: y(1), 'stroke-dasharray': '4 4' }));
  for (const point of points) svg.append(shape('circle', { class: 'point', cx: x(point.x), cy: y(point.y), r: Math.min(1.5 + Math.sqrt(point.n), 7) }));
  for (const point of marked) svg.append(shape('circle', { class: 'marked', cx: x(point.x), cy: y(point.y), r: 4 }));
  markAxis(svg, plot, fractions, x);
  return svg;
}

const compact = (value) => (value >= 10_000 ? `${Number((value / 1000).toFixed(1))}k` : count(value));

const binName = (bin) =>
  bin.low === 0 ? `< ${Number((bin.high * 100).toFixed(2))} %` : `${bin.low * 100}–${bin.high * 100} %`;

const megabases = (position) => (position / 1e6).toFixed(3);

/** Returns round positions in Mb from `first` to `last`, as many as fit into a width. */
function positionTicks(first, last) {
  return (width) => {
    const rough = (last - first) / Math.max(2, width / 60);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
    const from = Math.ceil(first / step - 1e-9);
    return Array.from({ length: Math.floor(last / step + 1e-9) - from + 1 }, (_, i) => (from + i) * step);
  };
}

/**
 * A figure: title, a sentence that describes it, the drawing, and the table `numbers`, if given. Screen readers read
 * `values` instead of the drawing. The figure is drawn again when its width changes, so its text keeps the page's size.
 */
function figure(title, sentence, draw, numbers, values = '') {
  const plot = el('div', { class: 'plot', role: 'img', 'aria-label': `${title}. ${sentence}${values}` });
  let drawn = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width === drawn || width < 120) return;
    drawn = width;
    plot.replaceChildren(draw(width));
  }).observe(plot);
  const details = numbers && el('details', {}, el('summary', {}, 'Numbers', el('span', { class: 'spoken' }, ` of “${title}”`)), numbers);
  return el('figure', {}, el('figcaption', {}, el('h3', {}, title), el('p', {}, sentence)), plot, details);
}

/** Mean DR2 by minor-allele frequency. `bins`: {low, high, n, mean_dr2}, with MAF as a fraction of 1. */
export function qualityByMaf(bins, samples) {
  const present = bins.filter((bin) => bin.n > 0);
  const parts = present.map((bin) => `${mean(bin.mean_dr2)} at MAF ${binName(bin)}`);
  const few = samples < 10 ? ` With ${counted(samples, 'sample')} the estimate is rough.` : '';
  const rows = bins.map((bin) => [binName(bin), count(bin.n), bin.n > 0 ? bin.mean_dr2.toFixed(3) : 'none']);
  const bars = bins.map((bin) =>
    bin.n > 0
      ? { name: binName(bin), value: bin.mean_dr2, text: mean(bin.mean_dr2) }
      : { name: binName(bin), value: null, text: 'no site' },
  );
  const axes = { yTicks: [0, 0.25, 0.5, 0.75, 1], yText: mean, xName: 'MAF in the panel', yName: 'mean DR2' };
  return figure(
    'Quality by allele frequency',
    `Mean DR2, the model’s estimate of its accuracy.${few}`,
    (width) => drawCategories(width, bars, axes),
    table('Mean DR2 by MAF', ['MAF', 'imputed sites', 'mean DR2'], rows, { numeric: [1, 2] }),
    ` ${parts.join(', ') || 'No site'}.`,
  );
}

/** Number of imputed sites by DR2. `bins`: {low, high, n} of equal width from 0 to 1. */
export function qualityDistribution(bins) {
  const n = total(bins);
  const good = total(bins.filter((bin) => bin.low >= 0.8));
  const axes = { low: 0, high: 1, xTicks: () => [0, 0.2, 0.4, 0.6, 0.8, 1], xName: 'DR2', yName: 'imputed sites' };
  const rows = bins.map((bin) => [`${mean(bin.low)}–${mean(bin.high)}`, count(bin.n)]);
  return figure(
    'Distribution of quality',
    n === 0 ? 'No imputed site.' : `Of ${counted(n, 'imputed site')} that vary in the panel, ${count(good)} have a DR2 of at least 0.8.`,
    (width) => drawHistogram(width, bins.map((bin) => bin.n), axes),
    table('Imputed sites by DR2', ['DR2', 'imputed sites'], rows, { numeric: [1] }),
  );
}

/** Distribution of genotype quality. `bins`: {low, high, n} of GQ; the last bin has no upper limit. */
export function genotypeCertainty(bins) {
  const n = total(bins);
  const name = (bin, i) => (i === bins.length - 1 ? `${bin.low}+` : `${bin.low}–${bin.high}`);
  const fraction = (bin) => (n > 0 ? bin.n / n : 0);
  const bars = bins.map((bin, i) => ({ name: name(bin, i), value: fraction(bin), text: percent(fraction(bin)) }));
  // In a narrow figure a bin is named by its lower limit.
  const narrow = bars.map((bar, i) => ({ ...bar, text: '', name: i === bins.length - 1 ? bar.name : String(bins[i].low) }));
  const certain = total(bins.filter((bin) => bin.low >= 20));
  const inPercent = (value) => `${Math.round(value * 100)} %`;
  const axes = { yTicks: [0, 0.25, 0.5, 0.75, 1], yText: inPercent, xName: 'GQ', yName: 'fraction of imputed genotypes' };
  return figure(
    'Certainty of genotypes',
    n === 0 ? 'No imputed genotype.' : `${percent(certain / n)} of imputed genotypes have a GQ of at least 20: the model gives them a probability of 99 % or more.`,
    (width) => drawCategories(width, width < 400 ? narrow : bars, axes),
    table('Imputed genotypes by GQ', ['GQ', 'genotypes', 'fraction'], bins.map((bin, i) => [name(bin, i), count(bin.n), bars[i].text]), { numeric: [1, 2] }),
  );
}

/** Typed sites along each chromosome. `bins`: {chrom, start, stop, typed} in order, 1-based and inclusive. */
export function typedDensities(bins) {
  const chroms = [...new Set(bins.map((bin) => bin.chrom))];
  return chroms.map((chrom) => typedDensity(bins.filter((bin) => bin.chrom === chrom), chrom));
}

function typedDensity(bins, chrom) {
  const counts = bins.map((bin) => bin.typed);
  const [first, last] = [bins[0].start, bins.at(-1).stop];
  const empty = counts.filter((n) => n === 0).length;
  const size = (bins[0].stop - bins[0].start + 1) / 1000;
  const xName = `position on chromosome ${chrom} (Mb)`;
  const axis = { low: first / 1e6, high: last / 1e6, xTicks: positionTicks(first / 1e6, last / 1e6), xName, yName: 'typed sites' };
  const rows = bins.map((bin) => [`${megabases(bin.start)}–${megabases(bin.stop)}`, count(bin.typed)]);
  return figure(
    'Typed sites along the chromosome',
    `Typed sites in ${counts.length} bins of ${size.toPrecision(2)} kb; ${empty === 0 ? 'every bin has at least one' : `${counted(empty, 'bin')} ${empty === 1 ? 'has' : 'have'} none`}.`,
    (width) => drawHistogram(width, counts, axis),
    table('Typed sites by position', ['Mb', 'typed sites'], rows, { numeric: [1] }),
  );
}

/** Allele frequencies of the file against those of the panel. `check`: the report's `frequencies`. */
export function alleleFrequencies(check, samples) {
  const { n_sites: n, n_different: different, n_mirrored: mirrored } = check;
  const sentences = [
    different === 0 ? `At none of ${counted(n, 'site')} the frequencies differ clearly.` : `At ${count(different)} of ${counted(n, 'site')} the frequencies differ clearly; rings mark them.`,
    mirrored > 0 && `At ${count(mirrored)} of them REF and ALT may be swapped.`,
    samples < 20 && `Frequencies from ${counted(samples, 'sample')} are uncertain.`,
  ];
  const points = check.cells.map(([panel, target, sites]) => ({ x: panel, y: target, n: sites }));
  const marked = check.different.map((site) => ({ x: site.panel, y: site.target }));
  const rows = check.different.map((site) => [
    `${site.chrom}:${site.pos}`,
    `${site.ref}>${site.alt}`,
    site.panel.toFixed(3),
    site.target.toFixed(3),
  ]);
  const numbers = table('Sites whose frequency differs most', ['Site', 'Alleles', 'Panel', 'File'], rows, { numeric: [2, 3] });
  return figure(
    'Allele frequencies',
    sentences.filter(Boolean).join(' '),
    (width) => drawScatter(width, points, marked, { xName: 'ALT frequency in the panel', yName: 'ALT frequency in the file' }),
    rows.length > 0 && numbers,
    check.correlation === null ? '' : ` The correlation is ${check.correlation.toFixed(3)}.`,
  );
}
