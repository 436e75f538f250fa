// The dashboard polls the node's API, reloads as soon as the node sends an event, and lets its user act on hosts and dead
// letters.
//
// Hosts, inboxes and errors are untrusted text. They reach the page only through textContent and titles.

const pollEvery = 2000; // milliseconds
const listsEvery = 3; // polls: a page of hosts costs the store more than totals
const timeout = 10_000;
const patience = 600_000; // for calls that change many dead letters
const soonAfter = 500; // after an event, so that a thousand events load the lists once
const pageSize = 25;
const rateOver = 6; // polls
const columns = {
  hosts: ['Host', 'State', 'Pending', 'In flight', 'Oldest pending', 'Next try', 'Last error', 'Actions'],
  letters: ['Inbox', 'Reason', 'Attempts', 'Died', 'Last error', 'Actions'],
};
const states = ['healthy', 'throttled', 'refusing', 'failing', 'open', 'unavailable', 'paused', 'blocked'];
const reasons = [
  'rejected', 'gone', 'expired', 'exhausted', 'host_blocked', 'host_unavailable', 'key_missing', 'private_address', 'lane_full', 'damaged',
];

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const relative = new Intl.RelativeTimeFormat('en', { style: 'short', numeric: 'auto' });

class TokenNeeded extends Error {}

let skew = 0; // the node's clock minus ours, because all times are the node's

// authorization returns the header with the token.
function authorization() {
  const token = sessionStorage.getItem('token');
  return token ? { Authorization: `Bearer ${token}` } : {};
}

// call calls the API. Addresses are relative, so that a proxy may serve the page under a path.
async function call(method, path, { query = {}, body, wait = timeout } = {}) {
  let response;
  try {
    response = await fetch(`${path}?${new URLSearchParams(query)}`, {
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
  if (!response.ok) throw new Error(answer.detail ?? `the node answered ${response.status}`);
  return answer;
}

const get = (path, query) => call('GET', path, { query });

// Elements

function el(tag, text = '', props = {}) {
  return Object.assign(document.createElement(tag), { textContent: text }, props);
}

function pill(word, className = 'pill') {
  const span = el('span', word, { className });
  span.dataset.state = word;
  return span;
}

// when shows a time relative to now. A future time that has passed is shown as now.
function when(stamp, future = false) {
  if (!stamp) return el('span', '–', { className: 'quiet' });
  const time = el('time', '', { dateTime: stamp, title: new Date(stamp).toLocaleString() });
  time.dataset.future = future;
  showTime(time);
  return time;
}

function showTime(time) {
  let seconds = (Date.parse(time.dateTime) - Date.now() - skew) / 1000;
  seconds = time.dataset.future === 'true' ? Math.max(seconds, 0) : Math.min(seconds, 0);
  const units = [['day', 86400], ['hour', 3600], ['minute', 60], ['second', 1]];
  const [unit, size] = units.find(([, size]) => Math.abs(seconds) >= size) ?? units[3];
  const text = relative.format(Math.trunc(seconds / size), unit);
  if (time.textContent !== text) time.textContent = text;
}

// button makes a button of a row. When the row is replaced, its data attributes find it or a button for the same thing.
function button(text, about, work) {
  const made = el('button', text, { type: 'button', title: `${text} ${about}` });
  made.setAttribute('aria-label', made.title);
  made.dataset.key = made.title;
  made.dataset.about = about;
  made.addEventListener('click', () => act(made, work));
  return made;
}

function buttons(list) {
  const box = el('div', '', { className: 'actions' });
  box.append(...list);
  return box;
}

function failure(attempt) {
  if (!attempt) return el('span', '–', { className: 'quiet' });
  const text = [attempt.status, attempt.error || attempt.outcome].filter(Boolean).join(' ');
  const box = el('div');
  box.append(el('span', text, { className: 'error', title: text }), ' ', when(attempt.at));
  return box;
}

// fill replaces the rows of a table. Elements lose their implicit roles when style.css stacks the cells of a row, so the roles
// are explicit; then each cell also shows its column's name.
function fill(name, rows) {
  const row = (cells, make) => {
    const tr = el('tr', '', { role: 'row' });
    tr.append(...cells.map(make));
    return tr;
  };
  const table = $(name);
  const focused = table.contains(document.activeElement) && document.activeElement.dataset;
  table.tHead.replaceChildren(row(columns[name], (title) => el('th', title, { role: 'columnheader', scope: 'col' })));
  table.tBodies[0].replaceChildren(...rows.map((cells) => row(cells, (content, i) => {
    const cell = i ? el('td', '', { role: 'cell' }) : el('th', '', { role: 'rowheader', scope: 'row' });
    cell.dataset.label = columns[name][i];
    cell.append(content);
    return cell;
  })));
  const find = (name) => table.querySelector(`[data-${name}="${CSS.escape(focused[name])}"]`);
  if (focused) (find('key') ?? find('about'))?.focus();
  table.hidden = !rows.length;
  $(`no-${name}`).hidden = rows.length > 0;
}

// Fleet

let samples = [];

function showFleet(fleet) {
  const now = { at: performance.now(), delivered: fleet.delivered };
  if (samples.at(-1)?.delivered > now.delivered) samples = []; // another store
  samples = [...samples, now].slice(-rateOver);
  const seconds = (now.at - samples[0].at) / 1000;
  $('rate').textContent = seconds > 0 ? number.format((now.delivered - samples[0].delivered) / seconds) : '–';
  for (const name of ['delivered', 'pending', 'dead', 'activities']) $(name).textContent = number.format(fleet[name]);
  $('oldest').replaceChildren(when(fleet.oldest_pending_at));
  const all = Object.values(fleet.hosts).reduce((sum, n) => sum + n, 0);
  for (const count of $('states').querySelectorAll('output')) {
    count.textContent = number.format(count.name ? fleet.hosts[count.name] ?? 0 : all);
  }
}

// showWarnings changes the page only if the warnings changed, because screen readers read an alert out.
function showWarnings(warnings) {
  const text = warnings.map((w) => w.message).join('\n');
  if ($('warnings').textContent !== text) $('warnings').textContent = text;
  $('warnings').hidden = !text;
}

// Hosts

const view = { state: '', q: '', cursors: [''], next: '', asked: 0 };

async function loadHosts() {
  const asked = ++view.asked;
  const list = await get('v1/hosts', { limit: pageSize, cursor: view.cursors.at(-1), state: view.state, q: view.q });
  if (asked !== view.asked) return; // another request was made since
  fill('hosts', list.items.map((h) => [
    el('span', h.host), pill(h.state), el('span', number.format(h.pending)), el('span', number.format(h.in_flight)),
    when(h.oldest_pending_at), when(h.breaker.retry_at, true), failure(h.last_error), hostButtons(h),
  ]));
  view.next = list.next_cursor ?? '';
  $('page').textContent = `Page ${view.cursors.length}`;
  $('previous').disabled = view.cursors.length === 1;
  $('next').disabled = !view.next;
}

// hostButtons returns the buttons that make sense in the host's state.
function hostButtons(h) {
  const sick = ['throttled', 'refusing', 'failing', 'open', 'unavailable'].includes(h.state);
  const actions = {
    resume: h.state === 'paused',
    unblock: h.state === 'blocked',
    probe: sick,
    reset: sick,
    pause: h.state !== 'paused' && h.state !== 'blocked',
    block: h.state !== 'blocked',
  };
  return buttons(Object.keys(actions).filter((action) => actions[action]).map((action) => button(action, h.host, async () => {
    const lost = `Block ${h.host}? Its pending deliveries (${number.format(h.pending)}) become dead letters.`;
    if (action === 'block' && !confirm(lost)) return;
    const now = await call('POST', `v1/hosts/${encodeURIComponent(h.host)}/${action}`, { wait: patience });
    report(`${h.host} is ${now.state}.`);
    await loadHosts();
  })));
}

// show changes the filter or the page of hosts. A new filter begins at the first page.
function show(change) {
  Object.assign(view, { cursors: [''] }, change);
  watch(loadHosts);
}

// Dead letters

async function loadLetters() {
  const reason = $('reason').value;
  const list = await get('v1/dead-letters', { limit: pageSize, ...(reason && { reason }) });
  if (reason !== $('reason').value) return; // another reason was chosen since
  fill('letters', list.items.map((d) => [
    el('span', d.inbox), pill(d.reason), el('span', number.format(d.attempts)), when(d.died_at), failure(d.last_attempt),
    buttons(['retry', 'delete'].map((verb) => button(verb, `${d.activity_id} to ${d.inbox}`, () => change(verb, { ids: [d.id] })))),
  ]));
}

// change retries or deletes dead letters, after the user confirmed their number.
async function change(verb, which) {
  const run = (body) => verb === 'retry' ? call('POST', 'v1/dead-letters/retry', { body, wait: patience })
    : call('DELETE', 'v1/dead-letters', { body, wait: patience });
  const { matched } = await run({ ...which, dry_run: true });
  const meant = `${number.format(matched)} dead letter${matched === 1 ? '' : 's'}`;
  const one = verb === 'retry' && which.ids;
  if (!matched || !one && !confirm(`${verb === 'retry' ? 'Retry' : 'Delete'} ${meant}${which.reason ? ` (${which.reason})` : ''}?`)) return;
  const { retried, deleted, superseded } = await run(which);
  const stay = superseded ? ` ${number.format(superseded)} stay dead, because their object was deleted since.` : '';
  report(`${verb === 'retry' ? 'Retried' : 'Deleted'} ${number.format(retried ?? deleted)} of ${meant}.${stay}`);
  await loadLetters();
}

// Acting

// act does the work of a button, once at a time. The button is not disabled, because it would lose the focus.
async function act(button, work) {
  if (button.ariaBusy) return;
  button.ariaBusy = 'true';
  await watch(work, (error) => report(`That failed: ${error.message}`));
  button.ariaBusy = null;
}

function report(text) {
  $('done').textContent = text;
}

// Events

const liveTitle = 'Changes appear at once';
let stream; // set while we listen

// listen reads events until the stream ends. Polls start it again.
async function listen() {
  if (stream || document.hidden) return;
  stream = new AbortController();
  const { signal } = stream;
  try {
    const response = await fetch('v1/events?type=host_state,dead', { headers: authorization(), signal });
    const reader = response.ok && response.body.pipeThrough(new TextDecoderStream()).getReader();
    if (reader) $('status').title = liveTitle;
    for (let text = ''; reader;) {
      const { value, done } = await reader.read();
      if (done) break;
      const events = (text + value).split('\n\n');
      text = events.pop();
      for (const event of events) handle(event);
    }
  } catch {
    // The polls show that the node is away.
  }
  if (stream?.signal === signal) stopListening();
}

function stopListening() {
  stream?.abort();
  stream = undefined;
  $('status').title = '';
}

// handle soon loads the list that an event changed.
function handle(event) {
  if (event.startsWith('event: host_state\n')) soon('hosts', loadHosts);
  if (event.startsWith('event: dead\n')) soon('letters', loadLetters);
}

const waiting = {};

function soon(name, load) {
  waiting[name] ??= setTimeout(() => {
    waiting[name] = undefined;
    if (!document.hidden) watch(load);
  }, soonAfter);
}

// Polling

let polls = 0;
let timer;

async function poll() {
  const due = polls++ % listsEvery === 0 ? [loadHosts(), loadLetters()] : [];
  if (due.length) listen();
  const [stats] = await Promise.all([get('v1/stats'), ...due]);
  showFleet(stats.fleet);
  showWarnings(stats.warnings);
  document.querySelectorAll('time').forEach(showTime);
}

// tick polls while the page is visible, until a token is needed.
async function tick() {
  clearTimeout(timer);
  if (document.hidden) {
    samples = [];
    stopListening();
    polls = 0; // the lists may be old when the page is visible again
    return say('Paused', 'quiet');
  }
  const goOn = await watch(poll);
  clearTimeout(timer); // set by a tick that came meanwhile
  if (goOn) timer = setTimeout(tick, pollEvery);
}

// watch does some work with the API and shows whether it succeeded. It returns false if a token is needed.
async function watch(work, failed = (error) => say(`Not up to date: ${error.message}`, 'bad')) {
  try {
    await work();
    say('Live', 'good');
    $('main').hidden = false;
    $('sign-in').hidden = true;
    $('forget').hidden = !sessionStorage.getItem('token');
  } catch (error) {
    if (error instanceof TokenNeeded) return askForToken();
    failed(error);
  }
  return true;
}

function say(text, tone) {
  if ($('status').textContent !== text) $('status').textContent = text;
  $('status').dataset.tone = tone;
}

function askForToken() {
  clearTimeout(timer);
  stopListening();
  if (sessionStorage.getItem('token')) $('why').textContent = 'The node did not accept this token.';
  sessionStorage.removeItem('token');
  say('Token needed', 'quiet');
  $('main').hidden = $('forget').hidden = true;
  $('sign-in').hidden = false;
  $('token').focus();
  return false;
}

// Controls

for (const state of ['', ...states]) {
  const label = el('label');
  const radio = el('input', '', { type: 'radio', name: 'state', value: state, checked: !state });
  radio.addEventListener('change', () => show({ state }));
  label.append(radio, pill(state || 'all', ''), el('output', '', { name: state }));
  $('states').append(label);
}

for (const reason of reasons) $('reason').append(el('option', reason, { value: reason }));
$('reason').addEventListener('change', () => watch(loadLetters));
for (const verb of ['retry', 'delete']) {
  $(verb).addEventListener('click', () => act($(verb), () => change(verb, $('reason').value ? { reason: $('reason').value } : {})));
}

let typing;
$('search').addEventListener('input', () => {
  clearTimeout(typing);
  typing = setTimeout(() => show({ q: $('search').value.trim() }), 250);
});
$('filter').addEventListener('submit', (event) => event.preventDefault());
$('previous').addEventListener('click', () => show({ cursors: view.cursors.slice(0, -1) }));
$('next').addEventListener('click', () => show({ cursors: [...view.cursors, view.next] }));
$('sign-in').addEventListener('submit', (event) => {
  event.preventDefault();
  sessionStorage.setItem('token', $('token').value);
  $('token').value = '';
  polls = 0;
  tick();
});
$('forget').addEventListener('click', () => {
  sessionStorage.removeItem('token');
  location.reload();
});
document.addEventListener('visibilitychange', tick);
tick();
