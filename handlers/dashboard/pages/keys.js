// Which keys sign, and what waits for them?

import { get } from '../api.js';
import { el, format, link, page, text, when } from '../dom.js';
import { cursors, go, values } from '../router.js';
import { filters, pager, table } from '../table.js';

const pageSize = 50;

export function keys(params, query) {
  const form = filters('Keys', [{ name: 'key_id', label: 'Key', type: 'text', hint: 'its whole id', width: 'long' }], (given) => go('keys', given));
  const rows = table({
    label: 'Keys', key: (k) => k.key_id, empty: () => (query.get('key_id') ? 'There is no key with this ID. Deliveries that need it wait for it.' : 'No keys yet. Your app stores one with PUT /v1/keys.'),
    columns: [
      { title: 'Key', cell: (k) => el('div', {}, text(k.key_id), k.removed_when_idle && el('p', { className: 'hint' }, 'Removed once nothing waits for it.')) },
      { title: 'Algorithm', cell: (k) => k.algorithm },
      { title: 'Pending', num: true, cell: (k) => format(k.pending) },
      { title: 'Stored', cell: (k) => when(k.created_at) },
      { title: 'Fingerprint', wide: true, cell: (k) => el('code', { title: k.fingerprint }, k.fingerprint) },
      { title: 'Sealed with', cell: (k) => el('code', {}, k.sealed_with ?? '–') },
      { title: 'Activities', cell: (k) => link(page('activities', { key_id: k.key_id }), 'Show') },
    ],
  });
  const pages = pager('keys');

  async function load(fresh) {
    const asked = query;
    const list = await get('v1/keys', { limit: pageSize, cursor: cursors(asked).at(-1), ...values(asked) });
    if (asked !== query) return; // another question was asked since
    if (fresh) rows.show(list.items);
    else rows.refresh(list.items);
    pages.show('keys', asked, list.next_cursor, list.items.length);
  }

  form.show(query);
  return {
    title: 'Keys',
    node: el('div', {}, el('h1', {}, 'Keys'), form, rows.node, pages),
    load,
    ask(newQuery) {
      query = newQuery;
      form.show(query);
    },
  };
}
