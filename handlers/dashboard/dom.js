// Elements. Hosts, inboxes, errors and activities are untrusted text: they reach the page only as text nodes and titles.

import { now } from './api.js';

const number = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const relative = new Intl.RelativeTimeFormat('en', { style: 'short', numeric: 'auto' });
const units = [['day', 86400], ['hour', 3600], ['minute', 60], ['second', 1]];

export const format = (n) => number.format(n ?? 0);

// count returns a number with its noun: "1 host", "2 hosts".
export const count = (n, noun, nouns = `${noun}s`) => `${format(n)} ${n === 1 ? noun : nouns}`;

// el makes an element. Properties that are not the element's own become attributes; functions listen to events.
export function el(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  set(made, props);
  made.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export function set(element, props) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (name === 'dataset') Object.assign(element.dataset, value);
    else if (name in element && name !== 'role' && name !== 'list') element[name] = value;
    else element.setAttribute(name, value);
  }
}

export const quiet = (text = '–') => el('span', { className: 'quiet' }, text);

// text shows a stranger's text. It may not change the direction of what stands beside it.
export const text = (content, className = '') => el('span', { className: `given ${className}`.trim() }, content);

export function pill(word, label = word) {
  return el('span', { className: 'pill', dataset: { state: word } }, label);
}

export const link = (href, ...content) => el('a', { href }, ...content);

// page returns the address of a page, with a query.
export function page(path, query = {}) {
  const given = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  return `#/${path}${given.size ? `?${given}` : ''}`;
}

export const hostLink = (host) => link(page(`hosts/${encodeURIComponent(host)}`), text(host));

// when shows a time relative to now. A future time that has passed is shown as now.
export function when(stamp, future = false) {
  if (!stamp) return quiet();
  const time = el('time', { dateTime: stamp, title: new Date(stamp).toLocaleString() });
  time.dataset.future = future;
  showTime(time);
  return time;
}

export function showTime(time) {
  let seconds = (Date.parse(time.dateTime) - now()) / 1000;
  seconds = time.dataset.future === 'true' ? Math.max(seconds, 0) : Math.min(seconds, 0);
  const [unit, size] = units.find(([, size]) => Math.abs(seconds) >= size) ?? units[3];
  put(time, relative.format(Math.trunc(seconds / size), unit));
}

// lasted writes a duration in seconds: "3 days 4 hours".
export function lasted(seconds) {
  const i = units.findIndex(([, size]) => seconds >= size);
  if (i < 0) return 'less than a second';
  const [unit, size] = units[i];
  const rest = units[i + 1] && Math.floor((seconds % size) / units[i + 1][1]);
  return count(Math.floor(seconds / size), unit) + (rest ? ` ${count(rest, units[i + 1][0])}` : '');
}

// span writes a duration in milliseconds: "180 ms", "2.1 s".
export function span(ms) {
  const [size, unit] = [[3600e3, 'h'], [60e3, 'min'], [1e3, 's']].find(([size]) => ms >= size) ?? [1, 'ms'];
  return `${format(ms / size)} ${unit}`;
}

// put changes the text of an element only if it is another one: screen readers read out what changes in a status.
export function put(element, content) {
  if (element.textContent !== content) element.textContent = content;
}

// swap replaces what is in an element, unless it would look the same, and keeps the focus on what has the same data-key.
export function swap(element, ...content) {
  const draft = el(element.tagName, {}, ...content);
  const same = draft.childNodes.length === element.childNodes.length &&
    [...draft.childNodes].every((node, i) => node.isEqualNode(element.childNodes[i]));
  if (same) return;
  const key = element.contains(document.activeElement) && document.activeElement.dataset.key;
  element.replaceChildren(...draft.childNodes);
  if (key) element.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

// answer writes what came of an attempt: the status, unless the error begins with it, and the error.
export function answer({ status, error, outcome }) {
  const said = error || outcome;
  return !status || said.startsWith(status) ? said : `${status} ${said}`;
}

// failure shows an attempt in short: the status, the error, and when.
export function failure(attempt) {
  if (!attempt) return quiet();
  const said = answer(attempt);
  return el('div', { className: 'failure' }, el('span', { className: 'given error', title: said }, said), ' ', when(attempt.at));
}

// facts makes a list of names and values. Values that are missing are left out.
export function facts(pairs) {
  return el('dl', { className: 'facts' }, pairs.filter(([, value]) => value !== undefined && value !== null && value !== '')
    .map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value))));
}

// section makes a part of a page with a heading.
export function section(title, ...content) {
  const id = `s-${title.toLowerCase().replace(/[^a-z]+/g, '-')}`;
  return el('section', { 'aria-labelledby': id }, el('h2', { id }, title), ...content);
}

// status makes a place where results appear and are announced.
export const status = (className = 'result') => el('p', { className, role: 'status' });
