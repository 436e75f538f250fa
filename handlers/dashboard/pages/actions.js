// Who did what?

import { get } from '../api.js';
import { el, format, hostLink, link, page, quiet, text, when } from '../dom.js';
import { go, values } from '../router.js';
import { filters, table } from '../table.js';

const most = 100; // rows
const mostPages = 10; // of the feed that are read for them

export function actions(params, query) {
  const form = filters('Actions', [{ name: 'host', label: 'Host', type: 'text', hint: 'its whole name', width: 'long' }], (given) => go('actions', given));
  const rows = table({
    label: 'Actions, newest first', key: (a) => a.cursor,
    empty: () => (query.get('host') ? 'Nobody did anything to this host, or it was too long ago.' : 'Nobody did anything yet, or it was too long ago.'),
    columns: [
      { title: 'Action', cell: (a) => el('code', {}, a.action) },
      { title: 'By', cell: (a) => (a.by ? text(a.by) : quiet('no token')) },
      { title: 'When', cell: (a) => when(a.at) },
      { title: 'On', wide: true, cell: target },
      { title: 'Details', wide: true, cell: details },
    ],
  });

  // load reads back from the newest entry, but not through the whole of a long feed in which few are actions.
  async function load(fresh) {
    const asked = query;
    let newest = [];
    let after;
    for (let pages = 0; pages < mostPages && newest.length < most; pages++) {
      const list = await get('v1/feed', { type: 'action', sort: 'newest', limit: most, after, ...values(asked) });
      if (asked !== query) return; // another question was asked since
      newest = [...newest, ...list.items];
      after = list.next_cursor;
      if (!after) break;
    }
    newest = newest.slice(0, most);
    if (fresh) rows.show(newest);
    else rows.refresh(newest);
  }

  form.show(query);
  return {
    title: 'Actions',
    node: el('div', {}, el('h1', {}, 'Actions'),
      el('p', { className: 'hint' }, `What was changed through the API, and with which token: the latest ${format(most)}, as far as the feed is kept.`), form, rows.node),
    load,
    ask(newQuery) {
      query = newQuery;
      form.show(query);
    },
  };
}

// target shows what something was done to.
function target({ host, key_id: key, id, activity_id: uri, filter }) {
  if (host) return hostLink(host);
  if (key) return link(page('keys', { key_id: key }), text(key));
  if (id) return link(page(`activities/${id}`), text(uri));
  if (!filter) return 'all';
  return text(Object.entries(filter).map(([name, value]) => `${name.replace('_', ' ')}: ${[value].flat().join(', ')}`).join('; '));
}

function details({ order, count }) {
  if (!order) return count ? `changed ${format(count)}` : quiet();
  return el('div', {}, order.reason ? text(order.reason) : quiet('no reason given'), order.subdomains && ', with subdomains',
    order.until && [', ends ', when(order.until, true)]);
}
