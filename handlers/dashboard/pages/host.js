// How is this host, why, since when, and what waits for it?

import { get, part } from '../api.js';
import { hostActions, needs, sensible } from '../actions.js';
import { el, facts, failure, format, hostLink, link, page, pill, section, status, swap, text, when } from '../dom.js';
import { outcomes, states } from '../words.js';
import { table } from '../table.js';
import { letterColumns } from './letters.js';

const some = 20; // dead letters and changes
const mostPages = 20; // of the feed

export function host([, name]) {
  let shown;
  const head = el('div', { className: 'lead' });
  const known = el('div');
  const error = el('div');
  const buttons = el('div', { className: 'buttons' });
  const result = status();
  const changes = el('div');
  const letters = table({
    label: 'Dead letters of this host', key: (d) => d.id, empty: () => 'No dead letters of this host.', columns: letterColumns.filter((c) => c.title !== 'Host'),
  });
  const more = el('p', { className: 'hint' });

  function show(h) {
    shown = h;
    swap(head, el('p', {}, pill(h.state), ' ', since(h)), el('p', {}, states[h.state]));
    swap(known, facts([
      ['Pending', h.pending ? `${format(h.pending)} (${format(h.in_flight)} in flight)` : 'nothing'],
      ['Oldest pending', h.oldest_pending_at && when(h.oldest_pending_at)],
      ['Next try', h.breaker.retry_at && when(h.breaker.retry_at, true)],
      ['Circuit breaker', h.breaker.state.replace('_', ' ') + (h.breaker.consecutive_failures ? `, ${format(h.breaker.consecutive_failures)} failures in a row` : '')],
      ['Failed on', h.failed_on.join(', ')],
      ['Refusals in a row', h.refusals || null],
      ['Last success', h.last_success_at ? when(h.last_success_at) : 'never'],
      ['Last answer', h.last_answer_at ? when(h.last_answer_at) : 'never'],
      ['Signature', h.signature_scheme === 'unknown' ? 'not known yet' : h.signature_scheme],
      ...ordersOf(h),
    ]));
    swap(error, h.last_error ? failure(h.last_error) : el('p', { className: 'quiet' }, 'None is known.'), h.last_error && el('p', { className: 'hint' }, outcomes[h.last_error.outcome] ?? ''));
    const verbs = sensible(h);
    if ([...buttons.children].map((b) => b.dataset.verb).join() === verbs.join()) return;
    const inside = buttons.contains(document.activeElement);
    buttons.replaceChildren(...hostActions(verbs, result, () => [shown], show));
    if (inside) buttons.querySelector('button')?.focus();
  }

  async function load(fresh) {
    const [h, dead, past] = await Promise.all([
      get(`v1/hosts/${part(name)}`), get('v1/dead-letters', { host: name, limit: some }), fresh ? history(name) : null,
    ]);
    show(h);
    if (fresh) letters.show(dead.items);
    else letters.refresh(dead.items);
    swap(more, ...(dead.items.length ? [link(page('dead-letters', { host: name }), dead.next_cursor ? 'All dead letters of this host' : 'Retry or delete them')] : []));
    if (past) showChanges(past);
  }

  function showChanges(past) {
    swap(changes, past.length ? el('ol', { className: 'changes' }, past.map((e) => el('li', {}, when(e.at), el('span', {}, pill(e.state), ...saidIn({ by: e.by, reason: e.order?.reason })))))
      : el('p', { className: 'none' }, 'No change of its state is in the feed.'));
  }

  return {
    title: name,
    node: el('div', {}, el('p', { className: 'up' }, link(page('hosts'), 'Hosts')), el('h1', {}, text(name)), head, needs('operate'),
      el('div', { className: 'bar' }, buttons, result),
      el('div', { className: 'columns' }, section('Record', known), section('Last error', error), section('Changes of its state', changes)),
      section('Dead letters', letters.node, more)),
    load,
    event(type, data) {
      if (type === 'host_state' && data.host === name) history(name).then(showChanges, () => {});
      return data.host === name;
    },
  };
}

const since = (h) => (h.changed_at ? el('span', { className: 'quiet' }, 'since ', when(h.changed_at)) : '');

// ordersOf shows since when, by whom, why and until when operators paused or blocked the host, or one whose subdomains it is of.
function ordersOf({ host, orders = [] }) {
  return orders.map((o) => [{ pause: 'Paused', block: 'Blocked' }[o.action], el('span', {}, when(o.since), ...saidIn(o),
    o.until ? [', ends ', when(o.until, true)] : ', until somebody ends it',
    o.host !== host ? [', with all subdomains of ', hostLink(o.host)] : o.subdomains ? ', with all its subdomains' : '')]);
}

// saidIn shows by whom and why an order was given.
const saidIn = ({ by, reason }) => [by ? [' by ', text(by)] : '', reason ? [': ', text(reason)] : ''].flat();

// history reads the changes of a host's state from the feed, newest first. The feed is read from its beginning, and gives the
// same cursor again at its end.
async function history(name) {
  let found = [];
  let after = '';
  for (let n = 0; n < mostPages; n++) {
    const { items, next_cursor: next } = await get('v1/feed', { host: name, type: 'host_state', limit: 500, after });
    found = [...found, ...items].slice(-some);
    if (!next || next === after) break;
    after = next;
  }
  return found.reverse();
}
