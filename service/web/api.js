/** Requests to the service. Paths are relative, so the page also works behind a proxy that adds a prefix. */

const KEY = 'vcfbert-key';

/** An error with the members of the service's problem+json. `status` is 0 if the service did not answer. */
export class Problem extends Error {
  constructor({ status, code, detail, where = null, hint = null, qc = null, retryAfter = null, request_id = null }) {
    super(detail);
    Object.assign(this, { status, code, detail, where, hint, qc, retryAfter, requestId: request_id });
  }

  /** Whether the same request may succeed later. */
  get passing() {
    return [0, 408, 429].includes(this.status) || this.status >= 500;
  }
}

/** The access key, stored until the tab is closed; null if the user gave none. */
export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

const authorisation = () => (key.get() === null ? {} : { Authorization: `Bearer ${key.get()}` });

function unreachable(detail, hint) {
  return new Problem({ status: 0, code: 'unreachable', detail, hint });
}

/** Returns the Problem of an error response. A 401 from any request opens the form for the key. */
function problemOf(status, text, retryAfter) {
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    // not JSON: an error page of a proxy
  }
  const detail = body.detail ?? `the server answered with status ${status}`;
  const problem = new Problem({ code: 'http_error', ...body, detail, status, retryAfter: Number(retryAfter) || null });
  if (status === 401) window.dispatchEvent(new CustomEvent('key-needed', { detail: key.get() !== null }));
  return problem;
}

async function request(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { cache: 'no-store', ...options, headers: authorisation() });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw unreachable('the service does not answer', 'check your network connection');
  }
  if (!answer.ok) throw problemOf(answer.status, await answer.text(), answer.headers.get('retry-after'));
  return answer;
}

export const getJson = async (path, signal = null) => (await request(path, { signal })).json();

export const remove = (path) => request(path, { method: 'DELETE' });

function form(fields) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value !== '') body.append(name, value);
  return body;
}

/** Sends form fields without a file and returns the JSON response. Empty fields are omitted. */
export const post = async (path, fields, signal = null) => (await request(path, { method: 'POST', body: form(fields), signal })).json();

/**
 * Sends a file with form fields and returns the JSON response. `sent(fraction)` receives the upload's progress; `signal`
 * aborts it. It uses XMLHttpRequest, because fetch does not report the progress of uploads.
 */
export function upload(path, file, fields, { sent, signal }) {
  return new Promise((resolve, reject) => {
    const body = form(fields);
    body.append('file', file, file.name);
    const sender = new XMLHttpRequest();
    sender.open('POST', path);
    for (const [name, value] of Object.entries(authorisation())) sender.setRequestHeader(name, value);
    sender.upload.addEventListener('progress', (event) => event.lengthComputable && sent(event.loaded / event.total));
    sender.addEventListener('load', () => {
      if (sender.status >= 200 && sender.status < 300) resolve(JSON.parse(sender.responseText));
      else reject(problemOf(sender.status, sender.responseText, sender.getResponseHeader('retry-after')));
    });
    sender.addEventListener('error', () => {
      const hint = 'check your network connection; if the file changed after you chose it, choose it again';
      reject(unreachable('the upload did not reach the service', hint));
    });
    sender.addEventListener('abort', () => reject(new DOMException('the upload was stopped', 'AbortError')));
    signal.addEventListener('abort', () => sender.abort());
    sender.send(body);
  });
}

/** Downloads a file with the access key, which a plain link cannot send. */
export async function download(path, name) {
  const content = await (await request(path)).blob();
  const link = document.createElement('a');
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
