// Where is the post that somebody asks about?

import { get } from '../api.js';
import { el, format, link, page, pill, swap, text, when } from '../dom.js';
import { cursors, go, values } from '../router.js';
import { filters, pager, table } from '../table.js';
import { since, times } from './letters.js';

const pageSize = 50;
const mostPages = 20; // looked through at once
const types = ['Accept', 'Add', 'Announce', 'Block', 'Create', 'Delete', 'Flag', 'Follow', 'Like', 'Move', 'Reject', 'Remove', 'Undo', 'Update'];

export function activities(params, query) {
  const hint = el('p', { className: 'hint', role: 'status' });
  const form = filters('Activities', [
    { name: 'activity_id', label: 'Activity', type: 'text', hint: 'its own id: https://…', width: 'long' },
    { name: 'actor', label: 'Actor', type: 'text', hint: 'https://…', width: 'long' },
    { name: 'type', label: 'Type', type: 'text', hint: 'Create', list: 'types', width: 'short' },
    { name: 'state', label: 'State', type: 'select', options: [['', 'any'], ['pending', 'pending'], ['done', 'done'], ['cancelled', 'cancelled']] },
    { name: 'since', label: 'Accepted', type: 'select', options: times },
  ], (given) => go('activities', { ...given, key_id: query.get('key_id') ?? '' }));
  const rows = table({
    label: 'Activities, newest first', key: (a) => a.id,
    empty: () => (Object.values(values(query)).some(Boolean) ? 'No activity matches. The search is for whole ids, as your app handed them over.' : 'No activities yet. They appear once your app hands over its first one.'),
    columns: [
      { title: 'Activity', cell: (a) => link(page(`activities/${a.id}`), text(a.activity_id)) },
      { title: 'Type', cell: (a) => text(a.type) },
      { title: 'State', cell: (a) => pill(a.state) },
      { title: 'Accepted', cell: (a) => when(a.created_at) },
      { title: 'Delivered', num: true, cell: (a) => `${format(a.counts.delivered)} of ${format(a.counts.total)}` },
      { title: 'Pending', num: true, cell: (a) => format(a.counts.pending) },
      { title: 'Dead', num: true, cell: (a) => (a.counts.dead ? el('b', { className: 'bad' }, format(a.counts.dead)) : '0') },
    ],
  });
  const pages = pager('activities');

  // find goes on until there is something to show: a page may be empty before the last one.
  async function find(asked) {
    const given = { ...values(asked), since: since(asked.get('since')) };
    let items = [];
    let cursor = cursors(asked).at(-1);
    for (let n = 0; n < mostPages && !items.length; n++) {
      const list = await get('v1/activities', { limit: pageSize, cursor, ...given });
      items = list.items;
      cursor = list.next_cursor;
      if (!cursor) break;
    }
    return { items, next: cursor };
  }

  async function load(fresh) {
    const asked = query;
    if (!fresh && cursors(asked).length) return; // older pages hardly change
    const { items, next } = await find(asked);
    if (asked !== query) return; // another question was asked since
    if (fresh) rows.show(items);
    else rows.refresh(items);
    const key = asked.get('key_id');
    swap(hint, ...(key ? ['Signed by ', text(key), '. ', link(page('activities'), 'Show all')]
      : !items.length && next ? ['Nothing found yet, but the search has not come to the end: go on with Next.'] : []));
    pages.show('activities', asked, next, items.length);
  }

  form.show(query);
  return {
    title: 'Activities',
    node: el('div', {}, el('h1', {}, 'Activities'), form, el('datalist', { id: 'types' }, types.map((value) => el('option', { value }))), hint, rows.node, pages),
    load,
    ask(newQuery) {
      query = newQuery;
      form.show(query);
    },
    event: (type) => type === 'activity_done',
  };
}
