/** What went wrong, in plain words: what, where, what to do, and the code to look up or to quote. */

import { el } from './dom.js';

const TITLES = {
  0: 'The service does not answer',
  401: 'An access key is needed',
  403: 'This is not allowed',
  404: 'This does not exist',
  408: 'The upload stalled',
  413: 'The file is too large for this service',
  415: 'This kind of file is not read',
  422: 'This input is refused',
  429: 'The service is busy',
  503: 'The service is not ready',
  507: 'The service’s disk is full',
};

/**
 * A box for a Problem (or anything with code, detail, where and hint). `retry`, where given, is what its button does;
 * `title` replaces the one that the status has.
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

/** With a capital and a full stop: the service's messages have neither. */
function sentence(text) {
  const start = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(start) ? start : `${start}.`;
}
