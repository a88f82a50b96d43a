/** Boxes that show an error: what is wrong, where, what to do, and its code. */

import { el } from './dom.js';

const TITLES = {
  0: 'The service does not answer',
  401: 'An access key is required',
  403: 'This is not permitted',
  404: 'Not found',
  408: 'The upload stalled',
  413: 'The file is too large for this service',
  415: 'This file type is not supported',
  422: 'The input cannot be used',
  429: 'The service is busy',
  503: 'The service is not ready',
  507: 'The service’s disk is full',
};

/**
 * A box for a Problem, or for any object with code, detail, where and hint. `retry` is the action of its button; without
 * it there is no button. `title` replaces the title of the status.
 */
export function notice(problem, { retry = null, title = null, tone = problem.passing ? 'warn' : 'bad' } = {}) {
  const wait = problem.retryAfter ? ` Try again in about ${problem.retryAfter} s.` : '';
  const heading = title ?? TITLES[problem.status] ?? 'The service failed on this request';
  const code = problem.requestId ? `${problem.code} · request ${problem.requestId}` : problem.code;
  return el(
    'div',
    { class: `notice ${tone}`, role: 'alert' },
    el('h2', {}, heading),
    el('p', {}, sentence(problem.detail) + wait),
    problem.where && el('p', {}, el('span', { class: 'term' }, 'Where: '), el('span', { class: 'code' }, problem.where)),
    problem.hint && el('p', {}, el('span', { class: 'term' }, 'What to do: '), sentence(problem.hint)),
    el('p', { class: 'small' }, 'Code: ', el('span', { class: 'code' }, code)),
    retry && el('p', {}, el('button', { type: 'button', onclick: retry }, 'Try again')),
  );
}

/** Adds a capital letter and a full stop, which the service's messages do not have. */
function sentence(text) {
  const start = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(start) ? start : `${start}.`;
}
