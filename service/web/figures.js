/** Figures as SVG, drawn for the width they have, each with its numbers as a table. */

import { count, counted, el, shape, table } from './dom.js';

const HEIGHT = 200; // CSS pixels between the top and the bottom axis' labels
const MARGIN = { top: 22, right: 10, bottom: 40, left: 46 };

/** Round counts from 0 to at least `largest`, some four steps. */
function ticks(largest) {
  if (!(largest > 0)) return [0, 1];
  const rough = largest / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max([1, 2, 5, 10].find((factor) => factor * power >= rough) * power, 1);
  const steps = Math.ceil(largest / step - 1e-9);
  return Array.from({ length: steps + 1 }, (_, i) => i * step);
}

/** The plot's frame: the scale of y, its grid and labels, the base line, and the axes' names. */
function frame(width, yTicks, yText, { xName, yName }) {
  const plot = { left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: HEIGHT - MARGIN.bottom };
  const top = yTicks.at(-1);
  const y = (value) => plot.bottom - (value / top) * (plot.bottom - plot.top);
  const svg = shape('svg', { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, 'aria-hidden': 'true' });
  for (const value of yTicks) {
    svg.append(
      shape('line', { class: value === 0 ? 'axis' : 'grid', x1: plot.left, x2: plot.right, y1: y(value), y2: y(value) }),
      shape('text', { class: 'tick', x: plot.left - 6, y: y(value) + 4, 'text-anchor': 'end' }, yText(value)),
    );
  }
  svg.append(
    shape('text', { class: 'name', x: 0, y: 11 }, yName),
    shape('text', { class: 'name', x: (plot.left + plot.right) / 2, y: HEIGHT - 4, 'text-anchor': 'middle' }, xName),
  );
  return { svg, plot, y };
}

const label = (x, y, text, anchor = 'middle', kind = 'tick') =>
  shape('text', { class: kind, x, y, 'text-anchor': anchor }, text);

const mean = (value) => value.toFixed(2);

/** Mean DR2 of each MAF bin, on an axis from 0 to 1 whatever the values. */
function drawBins(width, bins) {
  const { svg, plot, y } = frame(width, [0, 0.25, 0.5, 0.75, 1], mean, { xName: 'MAF in the panel', yName: 'mean DR2' });
  const step = (plot.right - plot.left) / bins.length;
  bins.forEach((bin, i) => {
    const middle = plot.left + step * (i + 0.5);
    const thickness = Math.min(step * 0.6, 64);
    if (bin.n > 0) {
      const height = plot.bottom - y(bin.mean_dr2);
      svg.append(
        shape('rect', { class: 'bar', x: middle - thickness / 2, y: y(bin.mean_dr2), width: thickness, height }),
        label(middle, y(bin.mean_dr2) - 5, mean(bin.mean_dr2), 'middle', 'value'),
      );
    } else {
      svg.append(label(middle, plot.bottom - 5, 'no site'));
    }
    svg.append(label(middle, plot.bottom + 15, binName(bin)));
  });
  return svg;
}

/** Counts over equal steps from `low` to `high`; the y axis starts at 0. */
function drawHistogram(width, counts, { low, high, xTicks, xName, yName }) {
  const { svg, plot, y } = frame(width, ticks(Math.max(...counts)), compact, { xName, yName });
  const step = (plot.right - plot.left) / counts.length;
  counts.forEach((n, i) => {
    const rect = { class: 'bar', x: plot.left + step * i + 0.5, y: y(n), width: Math.max(step - 1, 0.5) };
    if (n > 0) svg.append(shape('rect', { ...rect, height: plot.bottom - y(n) }));
  });
  const values = xTicks(plot.right - plot.left);
  const decimals = Math.max(...values.map((value) => (String(Number(value.toFixed(3))).split('.')[1] ?? '').length));
  values.forEach((value) => {
    const x = plot.left + ((value - low) / (high - low)) * (plot.right - plot.left);
    svg.append(
      shape('line', { class: 'axis', x1: x, x2: x, y1: plot.bottom, y2: plot.bottom + 4 }),
      label(x, plot.bottom + 16, value.toFixed(decimals)),
    );
  });
  return svg;
}

const compact = (value) => (value >= 10_000 ? `${Number((value / 1000).toFixed(1))}k` : count(value));

const binName = (bin) =>
  bin.low === 0 ? `< ${Number((bin.high * 100).toFixed(2))} %` : `${bin.low * 100}–${bin.high * 100} %`;

const megabases = (position) => (position / 1e6).toFixed(3);

/** Round positions in Mb between two, as many as fit. */
function positionTicks(first, last) {
  return (width) => {
    const rough = (last - first) / Math.max(2, width / 90);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
    const from = Math.ceil(first / step - 1e-9);
    return Array.from({ length: Math.floor(last / step + 1e-9) - from + 1 }, (_, i) => (from + i) * step);
  };
}

/**
 * A figure: title, a sentence that says what it shows, the drawing, and its numbers as a table; `values` are told to a
 * screen reader where the drawing tells them to others. It is drawn again when its width changes, so that its text
 * keeps the page's size on a phone.
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
  const details = el('details', {}, el('summary', {}, 'Numbers', el('span', { class: 'spoken' }, ` of “${title}”`)), numbers);
  return el('figure', {}, el('figcaption', {}, el('h3', {}, title), el('p', {}, sentence)), plot, details);
}

/** Estimated quality by how common a variant is. `bins`: {low, high, n, mean_dr2}, MAF as shares of 1. */
export function qualityByMaf(bins, samples) {
  const present = bins.filter((bin) => bin.n > 0);
  const parts = present.map((bin) => `${mean(bin.mean_dr2)} at MAF ${binName(bin)}`);
  const few = samples < 10 ? ` From ${counted(samples, 'sample')} it is a rough one.` : '';
  const rows = bins.map((bin) => [binName(bin), count(bin.n), bin.n > 0 ? bin.mean_dr2.toFixed(3) : 'none']);
  return figure(
    'Quality by allele frequency',
    `Mean DR2, the model’s own estimate of its accuracy.${few}`,
    (width) => drawBins(width, bins),
    table('Mean DR2 by MAF', ['MAF', 'sites', 'mean DR2'], rows, { numeric: [1, 2] }),
    ` ${parts.join(', ') || 'No site'}.`,
  );
}

/** How many sites have which DR2; `counts` over equal steps from 0 to 1. */
export function qualityDistribution(counts) {
  const n = counts.reduce((sum, value) => sum + value, 0);
  const good = counts.slice(Math.round(counts.length * 0.8)).reduce((sum, value) => sum + value, 0);
  const edge = (i) => (i / counts.length).toFixed(2);
  const xTicks = () => [0, 0.2, 0.4, 0.6, 0.8, 1];
  return figure(
    'Distribution of quality',
    n === 0 ? 'No site has a DR2.' : `${count(good)} of ${count(n)} sites have a DR2 of 0.8 or more.`,
    (width) => drawHistogram(width, counts, { low: 0, high: 1, xTicks, xName: 'DR2', yName: 'sites' }),
    table('Sites by DR2', ['DR2', 'sites'], counts.map((value, i) => [`${edge(i)}–${edge(i + 1)}`, count(value)]), { numeric: [1] }),
  );
}

/** Typed sites along the chromosome; `stretches`: {start, stop, typed} of equal length, 1-based and inclusive. */
export function typedDensity(stretches, chrom) {
  const counts = stretches.map((stretch) => stretch.typed);
  const [first, last] = [stretches[0].start, stretches.at(-1).stop];
  const empty = counts.filter((n) => n === 0).length;
  const size = (stretches[0].stop - stretches[0].start + 1) / 1000;
  const xName = `position on chromosome ${chrom} (Mb)`;
  const axis = { low: first / 1e6, high: last / 1e6, xTicks: positionTicks(first / 1e6, last / 1e6), xName, yName: 'typed sites' };
  const rows = stretches.map((stretch) => [`${megabases(stretch.start)}–${megabases(stretch.stop)}`, count(stretch.typed)]);
  return figure(
    'Typed sites along the chromosome',
    `In ${counts.length} stretches of ${size.toPrecision(2)} kb; ${empty === 0 ? 'none is' : `${empty} ${empty === 1 ? 'is' : 'are'}`} without a typed site.`,
    (width) => drawHistogram(width, counts, axis),
    table('Typed sites by position', ['Mb', 'typed sites'], rows, { numeric: [1] }),
  );
}
