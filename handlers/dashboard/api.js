// The node's API: calls with the token of this tab, what that token allows, and the events.

const timeout = 10_000; // milliseconds
const patience = 600_000; // for calls that change much

export class TokenNeeded extends Error {}

// Refused is an answer of 4xx or 5xx. Its message is the node's own text.
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.errors?.[0]?.location ? `${problem.detail} (${problem.errors[0].location}: ${problem.errors[0].message})`
      : problem.detail ?? `the node answered ${status}`);
    this.status = status;
    this.code = problem.errors?.[0]?.code;
    this.reason = problem.reason;
  }
}

let skew = 0; // the node's clock minus ours, because all times are the node's

// now returns the node's time, in milliseconds.
export const now = () => Date.now() + skew;

export const token = {
  get: () => sessionStorage.getItem('token'),
  set: (value) => sessionStorage.setItem('token', value),
  forget: () => sessionStorage.removeItem('token'),
};

function authorization() {
  return token.get() ? { Authorization: `Bearer ${token.get()}` } : {};
}

// call calls the API. Addresses are relative, so that a proxy may serve the dashboard under a path. Query parameters without
// a value are left out.
export async function call(method, path, { query = {}, body, wait = timeout } = {}) {
  const given = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  let response;
  try {
    response = await fetch(given.size ? `${path}?${given}` : path, {
      method,
      headers: { ...authorization(), ...(body && { 'Content-Type': 'application/json' }) },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(wait),
    });
  } catch {
    throw new Error('the node does not answer');
  }
  skew = (Date.parse(response.headers.get('Date')) || Date.now()) - Date.now();
  if (response.status === 401) throw new TokenNeeded();
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, answer);
  return answer;
}

export const get = (path, query) => call('GET', path, { query });
export const change = (method, path, body, query) => call(method, path, { body, query, wait: patience });

// part escapes a part of a path.
export const part = encodeURIComponent;

// lacks holds the scopes that the token does not have.
export const lacks = new Set();

// harmless are calls that change nothing and are refused to a token without the scope.
const harmless = {
  operate: () => change('POST', 'v1/dead-letters/retry', { ids: [], dry_run: true }),
  send: () => change('POST', 'v1/activities/cancel', { activity_ids: [], dry_run: true }),
};

// learnScopes finds out what the token allows.
export async function learnScopes() {
  lacks.clear();
  if (!token.get()) return;
  await Promise.all(Object.entries(harmless).map(([scope, test]) => test().catch((error) => {
    if (error instanceof TokenNeeded) throw error;
    if (error.code === 'missing_scope') lacks.add(scope);
  })));
}

let stream; // set while we listen

// listen reads events until the stream ends. It does nothing while a stream is open. handle gets the type and the data.
export async function listen(handle, opened) {
  if (stream) return;
  stream = new AbortController();
  const { signal } = stream;
  try {
    const response = await fetch('v1/events?type=host_state,dead,activity_done', { headers: authorization(), signal });
    const reader = response.ok && response.body.pipeThrough(new TextDecoderStream()).getReader();
    if (reader) opened(true);
    for (let text = ''; reader;) {
      const { value, done } = await reader.read();
      if (done) break;
      const events = (text + value).split('\n\n');
      text = events.pop();
      for (const event of events) emit(event, handle);
    }
  } catch {
    // The polls show that the node is away.
  }
  if (stream?.signal === signal) hangUp(opened);
}

export function hangUp(opened) {
  stream?.abort();
  stream = undefined;
  opened(false);
}

function emit(event, handle) {
  const type = event.match(/^event: (.*)$/m)?.[1];
  const data = event.match(/^data: (.*)$/m)?.[1];
  if (type && data) handle(type, JSON.parse(data));
}
