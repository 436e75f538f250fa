// The dashboard: it asks the node's API again and again and shows the answers.
//
// Hosts, inboxes and errors are texts of strangers. They reach the page through textContent, titles and nothing else.

const pollEvery = 2000; // milliseconds
const listsEvery = 3; // polls: finding a page of hosts costs a store more than totals do
const timeout = 10_000;
const pageSize = 25;
const rateOver = 6; // polls
const columns = {
  hosts: ['Host', 'State', 'Pending', 'In flight', 'Oldest pending', 'Next try', 'Last error'],
  letters: ['Inbox', 'Reason', 'Attempts', 'Died', 'Last error'],
};
const states = ['healthy', 'failing', 'open', 'unavailable', 'paused', 'blocked'];

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const relative = new Intl.RelativeTimeFormat('en', { style: 'short', numeric: 'auto' });

class TokenNeeded extends Error {}

let skew = 0; // the node's clock minus ours: times are the node's

// get asks the API. Addresses are relative, so that the page may lie behind a path of a proxy.
async function get(path, query = {}) {
  const token = sessionStorage.getItem('token');
  let response;
  try {
    response = await fetch(`${path}?${new URLSearchParams(query)}`, {
      headers: token ? { Authorization: `Bearer ${token}` } : {},
      signal: AbortSignal.timeout(timeout),
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

// Elements

function el(tag, text = '', props = {}) {
  return Object.assign(document.createElement(tag), { textContent: text }, props);
}

function pill(word, className = 'pill') {
  const span = el('span', word, { className });
  span.dataset.state = word;
  return span;
}

// when shows a time as the distance to it; a time in future that has passed is now.
function when(stamp, future = false) {
  if (!stamp) return el('span', '–', { className: 'quiet' });
  const time = el('time', '', { dateTime: stamp, title: new Date(stamp).toLocaleString() });
  time.dataset.future = future;
  tell(time);
  return time;
}

function tell(time) {
  let seconds = (Date.parse(time.dateTime) - Date.now() - skew) / 1000;
  seconds = time.dataset.future === 'true' ? Math.max(seconds, 0) : Math.min(seconds, 0);
  const units = [['day', 86400], ['hour', 3600], ['minute', 60], ['second', 1]];
  const [unit, size] = units.find(([, size]) => Math.abs(seconds) >= size) ?? units[3];
  const text = relative.format(Math.trunc(seconds / size), unit);
  if (time.textContent !== text) time.textContent = text;
}

function failure(attempt) {
  if (!attempt) return el('span', '–', { className: 'quiet' });
  const text = [attempt.status, attempt.error || attempt.outcome].filter(Boolean).join(' ');
  const box = el('div');
  box.append(el('span', text, { className: 'error', title: text }), ' ', when(attempt.at));
  return box;
}

// fill replaces what a table shows. The roles are those that the elements have by themselves, but lose where style.css
// stacks the cells of a row; each has its column's name for that.
function fill(name, rows) {
  const row = (cells, make) => {
    const tr = el('tr', '', { role: 'row' });
    tr.append(...cells.map(make));
    return tr;
  };
  const table = $(name);
  table.tHead.replaceChildren(row(columns[name], (title) => el('th', title, { role: 'columnheader', scope: 'col' })));
  table.tBodies[0].replaceChildren(...rows.map((cells) => row(cells, (content, i) => {
    const cell = i ? el('td', '', { role: 'cell' }) : el('th', '', { role: 'rowheader', scope: 'row' });
    cell.dataset.label = columns[name][i];
    cell.append(content);
    return cell;
  })));
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

// Hosts

const view = { state: '', q: '', cursors: [''], next: '', asked: 0 };

async function loadHosts() {
  const asked = ++view.asked;
  const list = await get('v1/hosts', { limit: pageSize, cursor: view.cursors.at(-1), state: view.state, q: view.q });
  if (asked !== view.asked) return; // asked for something else since
  fill('hosts', list.items.map((h) => [
    el('span', h.host), pill(h.state), el('span', number.format(h.pending)), el('span', number.format(h.in_flight)),
    when(h.oldest_pending_at), when(h.breaker.retry_at, true), failure(h.last_error),
  ]));
  view.next = list.next_cursor ?? '';
  $('page').textContent = `Page ${view.cursors.length}`;
  $('previous').disabled = view.cursors.length === 1;
  $('next').disabled = !view.next;
}

// show changes what of the hosts is shown, from the first page unless told otherwise.
function show(change) {
  Object.assign(view, { cursors: [''] }, change);
  watch(loadHosts);
}

// Dead letters

async function loadLetters() {
  const list = await get('v1/dead-letters', { limit: pageSize });
  fill('letters', list.items.map((d) => [
    el('span', d.inbox), pill(d.reason), el('span', number.format(d.attempts)), when(d.died_at), failure(d.last_attempt),
  ]));
}

// Polling

let polls = 0;
let timer;

async function poll() {
  const due = polls++ % listsEvery === 0 ? [loadHosts(), loadLetters()] : [];
  const [stats] = await Promise.all([get('v1/stats'), ...due]);
  showFleet(stats.fleet);
  document.querySelectorAll('time').forEach(tell);
}

// tick polls while the page is visible, and goes on unless a token is needed first.
async function tick() {
  clearTimeout(timer);
  if (document.hidden) {
    samples = [];
    return say('Paused', 'quiet');
  }
  const goOn = await watch(poll);
  clearTimeout(timer); // of a tick that came meanwhile
  if (goOn) timer = setTimeout(tick, pollEvery);
}

// watch does something with the API and says how that went. It returns false if a token is needed.
async function watch(work) {
  try {
    await work();
    say('Live', 'good');
    $('main').hidden = false;
    $('sign-in').hidden = true;
    $('forget').hidden = !sessionStorage.getItem('token');
  } catch (error) {
    if (error instanceof TokenNeeded) return askForToken();
    say(`Not up to date: ${error.message}`, 'bad');
  }
  return true;
}

function say(text, tone) {
  if ($('status').textContent !== text) $('status').textContent = text;
  $('status').dataset.tone = tone;
}

function askForToken() {
  clearTimeout(timer);
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
