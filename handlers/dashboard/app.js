// The dashboard: pages over the node's API. It polls, loads again as soon as the node sends an event, and stops while nobody
// looks at it.

import { Refused, TokenNeeded, get, hangUp, learnScopes, listen, token } from './api.js';
import { el, link, page, put, showTime } from './dom.js';
import { route, routed } from './router.js';
import { actions } from './pages/actions.js';
import { activities } from './pages/activities.js';
import { activity } from './pages/activity.js';
import { delivery } from './pages/delivery.js';
import { host } from './pages/host.js';
import { hosts } from './pages/hosts.js';
import { keys } from './pages/keys.js';
import { letters } from './pages/letters.js';
import { nodes } from './pages/nodes.js';
import { overview } from './pages/overview.js';

const pollEvery = 2000; // milliseconds
const listsEvery = 3; // polls: a page of hosts costs the store more than totals
const soonAfter = 500; // after an event, so that a thousand events load a page once

// pages are made by the parts of the address and its query. A page has a title, a node, and load, which gets whether what it
// shows is new to the user. It may have ask, which gets another query; stats, which gets the totals; and event, which reports
// whether an event changes what it shows.
const lists = { '': overview, hosts, activities, 'dead-letters': letters, keys, actions, nodes };
const singles = { hosts: host, activities: activity, deliveries: delivery };

const $ = (id) => document.getElementById(id);
let current; // the page shown
let path; // its address, without the query
const scrolled = new Map(); // how far down each address was
let clicked = false; // the address changes because a link was clicked, and not by going back

// Pages

function show() {
  const { parts, query } = route();
  const wanted = parts.join('/');
  scrolled.set(show.address, scrollY);
  show.address = location.hash;
  const moved = wanted !== path || !current;
  if (moved) {
    path = wanted;
    current = make(parts, query);
    $('page').replaceChildren(current.node);
    document.title = `${current.title} · Postrider`;
    for (const a of $('pages').children) a.ariaCurrent = a.hash === page(parts[0] ?? '') ? 'page' : null;
  } else current.ask?.(query);
  if (last) current.stats?.(last);
  const back = !clicked && scrolled.get(location.hash);
  clicked = false;
  const mine = current;
  const asked = location.hash;
  $('main').ariaBusy = 'true';
  watch(() => first(mine)).then(() => {
    if (asked === location.hash) $('main').ariaBusy = null;
    if (mine !== current || !moved) return;
    scrollTo(0, back || 0);
  });
  if (moved && show.later && !back) focusPage();
  show.later = true;
}

// first loads a page for the first time. If the node has no such thing, or refuses to show it, the page says so.
async function first(mine) {
  try {
    await mine.load(true);
  } catch (error) {
    if (!(error instanceof Refused) || error.status >= 500) throw error;
    mine.load = async () => {};
    mine.node.replaceChildren(el('h1', {}, mine.title), el('p', { className: 'none alone' }, error.status === 404
      ? 'There is nothing here: it is unknown to the node, or was dropped after its time.' : `The node answered: ${error.message}.`));
  }
}

// focusPage moves the focus to the heading of the page, so that screen readers say where the user is.
function focusPage() {
  const heading = $('page').querySelector('h1');
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
}

function make(parts, query) {
  const kind = parts.length < 2 ? lists[parts[0] ?? ''] : parts.length === 2 && singles[parts[0]];
  if (kind) return kind(parts, query);
  return {
    title: 'Not found', load: async () => {},
    node: el('div', {}, el('h1', {}, 'There is no such page'), el('p', {}, 'The address may be cut off. ', link(page(''), 'Go to the overview'), '.')),
  };
}

// Events

const handle = (type, data) => current?.event?.(type, data) && soon();
let waiting;

function soon() {
  waiting ??= setTimeout(() => {
    waiting = undefined;
    if (!document.hidden && !$('page').hidden) watch(() => current.load(false));
  }, soonAfter);
}

const opened = (live) => { $('status').title = live ? 'Changes appear at once' : ''; };

// Polling

let polls = 0;
let timer;
let last; // the totals

async function poll() {
  const due = polls++ % listsEvery === 0;
  if (due) listen(handle, opened);
  const [stats] = await Promise.all([get('v1/stats'), due && polls > 1 ? current.load(false) : null]);
  last = stats;
  current.stats?.(stats);
  document.querySelectorAll('time').forEach(showTime);
}

// tick polls while the page is visible, until a token is needed.
async function tick() {
  clearTimeout(timer);
  if (document.hidden) {
    hangUp(opened);
    polls = listsEvery; // what is shown may be old when the page is visible again
    return say('Paused', 'quiet');
  }
  const goOn = await watch(poll);
  clearTimeout(timer); // set by a tick that came meanwhile
  if (goOn) timer = setTimeout(tick, pollEvery);
  return undefined;
}

// watch does some work with the API and shows whether it succeeded. It returns false if a token is needed.
async function watch(work) {
  try {
    await work();
    if (!document.hidden) say('Live', 'good');
    $('page').hidden = false;
    $('sign-in').hidden = true;
    $('forget').hidden = !token.get();
  } catch (error) {
    if (error instanceof TokenNeeded) return askForToken();
    say(`Not up to date: ${error.message}`, 'bad');
  }
  return true;
}

function say(said, tone) {
  put($('status'), said);
  $('status').dataset.tone = tone;
}

function askForToken() {
  clearTimeout(timer);
  hangUp(opened);
  if (token.get()) put($('why'), 'The node did not accept this token.');
  token.forget();
  say('Token needed', 'quiet');
  $('page').hidden = $('forget').hidden = true;
  $('sign-in').hidden = false;
  $('token').focus();
  return false;
}

// start shows the page of the address, once it is known what the token allows.
async function start() {
  polls = 0;
  if (!await watch(learnScopes)) return;
  current = undefined;
  show();
  tick();
}

// Controls

$('sign-in').addEventListener('submit', (event) => {
  event.preventDefault();
  token.set($('token').value);
  $('token').value = '';
  start();
});
$('forget').addEventListener('click', () => {
  token.forget();
  location.reload();
});
$('skip').addEventListener('click', (event) => {
  event.preventDefault(); // the address is the page's
  $('main').focus();
});
document.addEventListener('click', (event) => {
  clicked = Boolean(event.target.closest?.('a[href^="#/"]'));
}, true);
document.addEventListener('visibilitychange', tick);
document.addEventListener('tokenneeded', askForToken);
routed(show);
start();
