// The inboxes that got this post, those that did not, and why.

import { change, get, part } from '../api.js';
import { action, ask, needs } from '../actions.js';
import { count, el, facts, failure, format, hostLink, link, page, pill, put, section, status, swap, text, when } from '../dom.js';
import { cursors, go } from '../router.js';
import { filters, pager, table } from '../table.js';

const pageSize = 50;
const atOnce = 500; // deliveries, while one host is looked for
const mostPages = 200;

export const deliveryColumns = [
  { title: 'Inbox', cell: (d) => link(page(`deliveries/${encodeURIComponent(d.id)}`), text(d.inbox)) },
  { title: 'Host', cell: (d) => hostLink(d.host) },
  { title: 'State', cell: (d) => pill(d.reason ?? d.state, d.reason ? `dead: ${d.reason}` : d.state) },
  { title: 'Attempts', num: true, cell: (d) => format(d.attempts) },
  { title: 'Next try', cell: (d) => when(d.next_attempt_at, true) },
  { title: 'Last error', wide: true, cell: (d) => failure(d.last_attempt) },
];

export function activity([, id], query) {
  const path = `activities/${id}`;
  let shown;
  const title = el('h1', {}, 'Activity');
  const lead = el('div', { className: 'lead' });
  const known = el('div');
  const buttons = el('div', { className: 'buttons' });
  const result = status();
  const found = el('p', { className: 'hint', role: 'status' });
  const form = filters('Deliveries', [
    { name: 'host', label: 'Host', type: 'search', hint: 'part of the name' },
    { name: 'state', label: 'State', type: 'select', options: [['', 'pending or dead'], ['pending', 'pending'], ['dead', 'dead']] },
  ], (given, typing) => go(path, given, typing));
  const rows = table({
    label: 'Deliveries that are pending or dead', key: (d) => d.id, columns: deliveryColumns,
    empty: () => (query.get('host') ? 'None of its deliveries that are pending or dead goes to such a host. If the post was for it, it was delivered or cancelled.' : 'Nothing of it is pending or dead.'),
  });
  const pages = pager('deliveries');
  const bytes = el('pre', { tabIndex: 0, 'aria-label': 'The activity', role: 'region' });
  const body = el('details', { toggle: () => body.open && !bytes.textContent && loadBody() }, el('summary', {}, 'The activity as it is sent'), bytes);

  function show(a) {
    shown = a;
    const { total, pending, delivered, dead, cancelled } = a.counts;
    swap(title, `${a.type} `, text(a.activity_id, 'id'));
    swap(lead, el('p', {}, pill(a.state), ' ', el('span', { className: 'quiet' }, 'accepted ', when(a.created_at))),
      el('p', {}, `${format(delivered)} of ${count(total, 'delivery was', 'deliveries were')} delivered`,
        pending ? `, ${format(pending)} pending` : '', dead ? `, ${format(dead)} dead` : '', cancelled ? `, ${format(cancelled)} cancelled` : '', '.'),
      el('progress', { value: total - pending, max: total || 1, 'aria-label': 'Deliveries that have ended' }));
    swap(known, facts([
      ['Actor', a.actor && link(page('activities', { actor: a.actor }), text(a.actor))],
      ['Key', link(page('keys', { key_id: a.key_id }), text(a.key_id))],
      ['ID here', text(a.id)],
      ['Metadata', a.metadata && el('code', { className: 'given' }, JSON.stringify(a.metadata))],
      ['Dead letters', dead ? link(page('dead-letters', { activity_id: a.activity_id }), `Retry or delete the ${count(dead, 'dead letter')}`) : null],
    ]));
    if (!pending === !buttons.firstChild) return;
    buttons.replaceChildren(...(pending ? [action('Cancel what is pending…', { scope: 'send', place: result }, cancel)] : []));
  }

  async function cancel() {
    const yes = await ask({ title: `Cancel ${count(shown.counts.pending, 'pending delivery', 'pending deliveries')}?`, text: 'What is in flight may still arrive. This cannot be undone.', yes: 'Cancel them', danger: true });
    if (!yes) return null;
    const before = shown.counts.cancelled;
    show(await change('DELETE', `v1/activities/${part(id)}`));
    await load(true);
    return `Cancelled ${count(shown.counts.cancelled - before, 'delivery', 'deliveries')}.`;
  }

  // deliveries returns a page of the deliveries. Those to one host are looked for here, because the node lists them by ID only.
  async function deliveries(asked) {
    const given = { state: asked.get('state') ?? '' };
    const wanted = (asked.get('host') ?? '').toLowerCase();
    let cursor = cursors(asked).at(-1);
    if (!wanted) return get(`v1/activities/${part(id)}/deliveries`, { limit: pageSize, cursor, ...given });
    let items = [];
    for (let n = 1; n <= mostPages && items.length < pageSize && asked === query; n++) {
      const list = await get(`v1/activities/${part(id)}/deliveries`, { limit: atOnce, cursor, ...given });
      items = [...items, ...list.items.filter((d) => d.host.includes(wanted))];
      cursor = list.next_cursor;
      if (!cursor) break;
      put(found, `Looked through ${format(n * atOnce)} deliveries.`);
    }
    return { items, next_cursor: cursor };
  }

  async function load(fresh) {
    const asked = query;
    const loaded = await get(`v1/activities/${part(id)}`);
    if (!fresh && asked.get('host')) return show(loaded); // it would be looked for again each time
    const list = await deliveries(asked);
    if (asked !== query) return undefined; // another question was asked since
    show(loaded);
    put(found, asked.get('host') ? `${count(list.items.length, 'delivery', 'deliveries')} found.` : '');
    if (fresh) rows.show(list.items);
    else rows.refresh(list.items);
    pages.show(path, asked, list.next_cursor, list.items.length);
    return undefined;
  }

  async function loadBody() {
    try {
      put(bytes, JSON.stringify(await get(`v1/activities/${part(id)}/body`), null, 2));
    } catch (error) {
      put(bytes, error.status === 404 ? 'It is not kept any more, because all its deliveries have ended.' : `That failed: ${error.message}.`);
    }
  }

  form.show(query);
  return {
    title: 'Activity',
    node: el('div', {}, el('p', { className: 'up' }, link(page('activities'), 'Activities')), title, lead, needs('send'),
      el('div', { className: 'bar' }, buttons, result), known, body,
      section('Deliveries that are pending or dead', el('p', { className: 'hint' }, 'Those that were delivered are only counted.'), form, found, rows.node, pages)),
    load,
    ask(newQuery) {
      query = newQuery;
      form.show(query);
    },
    event: (type, data) => data.activity_id === shown?.activity_id,
  };
}
