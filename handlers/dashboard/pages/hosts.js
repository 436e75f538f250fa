// How are the receivers, and which need a hand?

import { change, get } from '../api.js';
import { action, ask, hints, hostActions, needs, sensible } from '../actions.js';
import { count, el, failure, format, hostLink, pill, put, quiet, when } from '../dom.js';
import { cursors, go, values } from '../router.js';
import { filters, pager, selection, table } from '../table.js';
import { states } from '../words.js';

const pageSize = 50;
const orders = [['', 'name'], ['pending', 'most pending'], ['oldest', 'oldest pending']];

export function hosts(params, query) {
  let totals = {};
  let ticked = [];
  const bar = selection('host', () => rows);
  const { buttons, result } = bar;
  const form = filters('Hosts', [
    { name: 'q', label: 'Name', type: 'search', hint: 'part of the name' },
    { name: 'state', label: 'State', type: 'select', options: [['', 'any'], ...Object.keys(states).map((s) => [s, s])] },
    { name: 'sort', label: 'Order', type: 'select', options: orders },
  ], (given, typing) => go('hosts', given, typing));
  const hint = el('p', { className: 'hint' });
  const rows = table({
    label: 'Hosts', key: (h) => h.host, chosen: select, sorted: (sort) => go('hosts', { ...values(query), sort: sort === 'name' ? '' : sort }),
    empty: () => (query.get('q') || query.get('state') ? 'No host matches.' : query.get('sort') ? 'Nothing is pending for any host.' : 'No hosts yet. They appear once your app hands over its first activity.'),
    columns: [
      { title: 'Host', sort: 'name', cell: (h) => hostLink(h.host) },
      { title: 'State', cell: (h) => pill(h.state) },
      { title: 'Pending', num: true, sort: 'pending', cell: (h) => format(h.pending) },
      { title: 'In flight', num: true, cell: (h) => (h.in_flight ? format(h.in_flight) : quiet('0')) },
      { title: 'Oldest pending', sort: 'oldest', cell: (h) => when(h.oldest_pending_at) },
      { title: 'Next try', cell: (h) => when(h.breaker.retry_at, true) },
      { title: 'Last error', wide: true, cell: (h) => failure(h.last_error) },
    ],
  });
  const pages = pager('hosts');

  // select shows what can be done with the hosts that are ticked.
  function select(hosts) {
    ticked = hosts;
    bar.show(hosts);
    const verbs = Object.keys(hints).filter((verb) => hosts.some((h) => sensible(h).includes(verb)));
    const shown = [...buttons.querySelectorAll('[data-verb]')].map((b) => b.dataset.verb);
    const state = query.get('state');
    if (verbs.join() === shown.join() && buttons.dataset.state === (state ?? '')) return;
    buttons.dataset.state = state ?? '';
    buttons.replaceChildren(...hostActions(verbs, result, () => ticked, (h) => { rows.update(h); select(rows.selected()); }),
      ...(!verbs.length && totals[state] && sensible({ state }).includes('reset') ? [resetAll(state)] : []));
  }

  const resetAll = (state) => action(`Reset all ${state} hosts…`, { place: result }, async () => {
    const yes = await ask({ title: `Reset all ${count(totals[state], `${state} host`)}?`, text: 'This closes their circuit breakers and forgets their failures, such as after an outage of your own network.', yes: 'Reset all' });
    if (!yes) return null;
    const { reset } = await change('POST', 'v1/hosts/reset', undefined, { state });
    await load(true);
    return `Reset ${count(reset, 'host')}.`;
  });

  async function load(fresh) {
    const asked = query;
    const sort = asked.get('sort') ?? '';
    const list = await get('v1/hosts', { limit: pageSize, cursor: cursors(asked).at(-1), ...values(asked) });
    if (asked !== query) return; // another question was asked since
    if (fresh) rows.show(list.items, sort || 'name');
    else rows.refresh(list.items);
    put(hint, sort ? 'In this order only hosts for which something is pending are listed.' : states[asked.get('state')] ?? '');
    pages.show('hosts', asked, list.next_cursor, list.items.length);
  }

  form.show(query);
  return {
    title: 'Hosts',
    node: el('div', {}, el('h1', {}, 'Hosts'), form, hint, needs('operate'), bar.node, rows.node, pages),
    load,
    ask(newQuery) {
      query = newQuery;
      form.show(query);
      put(result, '');
    },
    stats(stats) {
      totals = stats.fleet.hosts;
      const known = Object.values(totals).reduce((n, m) => n + m, 0);
      for (const option of form.querySelector('#f-state').options) {
        put(option, `${option.value || 'any'} (${format(option.value ? totals[option.value] ?? 0 : known)})`);
      }
      select(ticked);
    },
    event: (type) => type === 'host_state',
  };
}
