// How is this host, why, since when, and what waits for it?

import { get, part } from '../api.js';
import { hostActions, needs, sensible } from '../actions.js';
import { el, facts, failure, format, hostLink, link, page, pill, put, quiet, section, status, swap, text, when } from '../dom.js';
import { cursors } from '../router.js';
import { outcomes, states, waitsFor } from '../words.js';
import { pager, table } from '../table.js';
import { letterColumns } from './letters.js';

const some = 20; // dead letters
const fewPending = 10; // deliveries on a page
const fewChanges = 10; // of its state
const mostPages = 10; // of the feed, looked at for these

export function host([, name], query) {
  const path = `hosts/${part(name)}`;
  let shown = { state: 'healthy' };
  const head = el('div', { className: 'lead' });
  const known = el('div');
  const error = el('div');
  const buttons = el('div', { className: 'buttons' });
  const result = status();
  const changes = changesOf(name);
  const rows = table({
    label: 'Deliveries that are pending for this host', key: (d) => d.id, empty: () => 'Nothing is pending for this host.', columns: [
      { title: 'Activity', cell: (d) => el('div', {}, link(page(`deliveries/${part(d.id)}`), text(d.activity_id)),
        el('div', { className: 'sub' }, text(d.type), d.priority === 'normal' ? '' : ` of ${d.priority} priority`, ', accepted ', when(d.created_at))) },
      { title: 'Waits for', cell: (d) => el('div', {}, waitsFor(d, shown), ...(isTimed(d) ? [' ', when(d.next_attempt_at, true)] : [])) },
      { title: 'Attempts', num: true, cell: (d) => (d.attempts ? format(d.attempts) : quiet('0')) },
      { title: 'Last attempt', wide: true, cell: (d) => failure(d.last_attempt) },
    ],
  });
  const pages = pager('pending deliveries');
  const isTimed = (d) => d.next_attempt_at && (d.waits_for === 'retry' || d.waits_for === 'host' && shown.state !== 'paused');
  const pending = section('Pending', el('p', { className: 'hint' }, 'In the order accepted. Those of high priority go out before others.'), rows.node, pages);
  const letters = table({
    label: 'Dead letters of this host', key: (d) => d.id, empty: () => 'No dead letters of this host.', columns: letterColumns.filter((c) => c.title !== 'Host'),
  });
  const more = el('p', { className: 'hint' });

  function show(h) {
    shown = h;
    put(pending.querySelector('h2'), `Pending (${format(h.pending)})`);
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
    const asked = query;
    const [h, waiting, dead] = await Promise.all([
      get(`v1/${path}`), get(`v1/${path}/deliveries`, { limit: fewPending, cursor: cursors(asked).at(-1) }),
      get('v1/dead-letters', { host: name, limit: some }), fresh && changes.load(),
    ]);
    if (asked !== query) return; // another page was asked for since
    show(h);
    if (fresh) rows.show(waiting.items);
    else rows.refresh(waiting.items);
    pages.show(path, asked, waiting.next_cursor, waiting.items.length);
    if (fresh) letters.show(dead.items);
    else letters.refresh(dead.items);
    swap(more, ...(dead.items.length ? [link(page('dead-letters', { host: name }), dead.next_cursor ? 'All dead letters of this host' : 'Retry or delete them')] : []));
  }

  return {
    title: name,
    node: el('div', {}, el('p', { className: 'up' }, link(page('hosts'), 'Hosts')), el('h1', {}, text(name)), head, needs('operate'),
      el('div', { className: 'bar' }, buttons, result),
      el('div', { className: 'columns' }, section('Record', known), section('Last error', error), section('How its state changed', changes.node)),
      pending, section('Dead letters', letters.node, more)),
    load,
    ask(newQuery) {
      query = newQuery;
    },
    event(type, data) {
      if (type === 'host_state' && data.host === name) changes.load().catch(() => {});
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

// changesOf lists the changes of a host's state, newest first. A page of the feed looks at a part of it, so an empty one does not
// mean that there are no more: one may look further back.
function changesOf(name) {
  const list = el('ol', { className: 'changes' });
  const said = el('p', { className: 'hint', role: 'status' });
  const back = el('button', { type: 'button', click: () => read().catch((error) => put(said, `That failed: ${error.message}.`)) }, 'Look further back');
  let after = '';
  let asked = 0;

  async function read() {
    const mine = ++asked;
    let found = [];
    let from = after;
    for (let n = 0; n < mostPages && found.length < fewChanges; n++) {
      const { items, next_cursor: next } = await get('v1/feed', { host: name, type: 'host_state', sort: 'newest', limit: fewChanges, after: from });
      found = [...found, ...items];
      from = next;
      if (!next) break;
    }
    if (mine !== asked) return; // it is read again since
    if (!after) list.replaceChildren();
    list.append(...found.map((e) => el('li', {}, when(e.at), el('span', {}, pill(e.state), ...saidIn({ by: e.by, reason: e.order?.reason })))));
    after = from;
    back.hidden = !after;
    put(said, list.childElementCount ? (after ? '' : 'There are no others in the feed.') : after ? 'No change is in the newest part of the feed.' : 'No change of its state is in the feed.');
  }

  return {
    node: el('div', {}, list, said, back),
    load() {
      after = '';
      return read();
    },
  };
}
