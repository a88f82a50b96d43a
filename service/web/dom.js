/** DOM elements, and the formats of numbers, sizes and times. */

/**
 * Creates an element: `el('p', {class: 'hint'}, 'text', child)`. Strings become text nodes, so a file name or an error
 * text cannot inject markup. Attributes with the value `null` or `false` are omitted; `on…` attributes are listeners.
 */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** Creates an SVG element, with the arguments of `el`. */
export function shape(tag, attributes = {}, ...children) {
  return filled(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Moves the focus to an element that is not a control, usually a heading. */
export function focusOn(element) {
  element.setAttribute('tabindex', '-1');
  element.focus({ preventScroll: true });
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  element.scrollIntoView({ block: 'nearest', behavior: calm ? 'auto' : 'smooth' });
}

/** Announces a text to screen readers through the page's live region. */
export function announce(text) {
  const region = byId('announcements');
  if (region.textContent !== text) region.textContent = text;
}

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

export const count = (value) => whole.format(value);

/** '1 sample', '2 samples'. */
export const counted = (value, noun) => `${count(value)} ${noun}${value === 1 ? '' : 's'}`;

/** Formats a fraction of 1 as a percentage. It never rounds a fraction below 1 to '100 %'. */
export function percent(fraction) {
  const value = fraction * 100;
  if (value > 0 && value < 0.1) return '< 0.1 %';
  if (value < 100 && value > 99.9) return '> 99.9 %';
  return `${Number.isInteger(value) ? value : value.toFixed(1)} %`;
}

export function fileSize(bytes) {
  const units = ['bytes', 'kB', 'MB', 'GB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`;
}

export function duration(seconds) {
  if (seconds < 1) return 'under a second';
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const dateAndTime = new Intl.DateTimeFormat('en-GB', { dateStyle: 'medium', timeStyle: 'short' });
const dayOnly = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });
const timeOnly = new Intl.DateTimeFormat('en-GB', { timeStyle: 'short' });

/** Formats a moment in the reader's time zone. `short` gives the time for today and the date for other days. */
export function when(moment, { short = false } = {}) {
  const date = new Date(moment);
  const today = date.toDateString() === new Date().toDateString();
  const format = short ? (today ? timeOnly : dayOnly) : dateAndTime;
  return el('time', { datetime: date.toISOString() }, format.format(date));
}

/** A list of [term, description] pairs. Pairs without a description are omitted. */
export function facts(pairs) {
  const present = pairs.filter(([, value]) => value !== null && value !== undefined && value !== '');
  return el('dl', { class: 'facts' }, present.map(([term, value]) => el('div', {}, el('dt', {}, term), el('dd', {}, value))));
}

/**
 * A table in a box that scrolls, also by keyboard. `numeric` has the indices of columns with numbers; `tall` shows the
 * table at full height.
 */
export function table(caption, columns, rows, { numeric = [], tall = false } = {}) {
  const kind = (i) => (numeric.includes(i) ? 'number' : null);
  const head = el('tr', {}, columns.map((name, i) => el('th', { scope: 'col', class: kind(i) }, name)));
  const body = rows.map((row) => el('tr', {}, row.map((value, i) => el('td', { class: kind(i) }, String(value)))));
  return el(
    'div',
    { class: tall ? 'scroll tall' : 'scroll', role: 'region', 'aria-label': caption, tabindex: '0' },
    el('table', {}, el('caption', { class: 'spoken' }, caption), el('thead', {}, head), el('tbody', {}, body)),
  );
}
