// Dead letters: why each was not delivered, and those worth another try.

import { change, get, lacks, now } from '../api.js';
import { action, changeLetters, needs } from '../actions.js';
import { el, failure, format, hostLink, link, page, pill, put, text, when } from '../dom.js';
import { cursors, go, values } from '../router.js';
import { filters, pager, selection, table } from '../table.js';
import { reasons } from '../words.js';

const pageSize = 50;
export const times = [['', 'any time'], ['1h', 'last hour'], ['24h', 'last day'], ['7d', 'last 7 days'], ['30d', 'last 30 days']];

// since makes a time of one that is relative to now, like 24h. Others stay as they are.
export function since(value) {
  const [, n, unit] = /^(\d+)([hd])$/.exec(value ?? '') ?? [];
  return unit ? new Date(now() - n * (unit === 'h' ? 3600e3 : 86400e3)).toISOString() : value;
}

export const letterColumns = [
  { title: 'Inbox', cell: (d) => link(page(`deliveries/${encodeURIComponent(d.id)}`), text(d.inbox)) },
  { title: 'Host', cell: (d) => hostLink(d.host) },
  { title: 'Reason', cell: (d) => pill(d.reason) },
  { title: 'Attempts', num: true, cell: (d) => format(d.attempts) },
  { title: 'Died', cell: (d) => when(d.died_at) },
  { title: 'Last error', wide: true, cell: (d) => failure(d.last_attempt) },
];

export function letters(params, query) {
  let ticked = [];
  let matched = null; // how many match; null if that is not known
  let total = 0;
  const bar = selection('dead letter', () => rows);
  const { buttons, result } = bar;
  const hint = el('p', { className: 'hint' });
  const form = filters('Dead letters', [
    { name: 'reason', label: 'Reason', type: 'select', options: [['', 'any'], ...Object.keys(reasons).map((r) => [r, r])] },
    { name: 'host', label: 'Host', type: 'text', hint: 'one.example' },
    { name: 'inbox', label: 'Inbox', type: 'text', hint: 'https://…', width: 'long' },
    { name: 'activity_id', label: 'Activity', type: 'text', hint: 'its own id', width: 'long' },
    { name: 'since', label: 'Died', type: 'select', options: times },
  ], (given) => go('dead-letters', given));
  const rows = table({
    label: 'Dead letters, newest first', key: (d) => d.id, columns: letterColumns, chosen: select,
    empty: () => (Object.keys(filter()).length ? 'No dead letter matches.' : 'No dead letters: everything that ended was delivered or cancelled.'),
  });
  const pages = pager('dead letters');

  // filter is what the address asks for, as the calls have it.
  function filter() {
    const given = Object.fromEntries(Object.entries(values(query)).filter(([, value]) => value));
    return given.since ? { ...given, since: since(given.since) } : given;
  }

  function select(letters) {
    ticked = letters;
    bar.show(letters);
    offer();
  }

  // offer shows what can be done: with those that are ticked or, if none is, with all that match.
  function offer() {
    const of = ticked.length ? `${format(ticked.length)} selected` : `all that match${matched === null ? '' : ` (${format(matched)})`}`;
    if (buttons.dataset.of === of) return;
    buttons.dataset.of = of;
    const inside = buttons.contains(document.activeElement) && document.activeElement.dataset.verb;
    buttons.replaceChildren(...(rows.size() ? ['retry', 'delete'] : []).map((verb) => {
      const made = action(`${verb === 'retry' ? 'Retry' : 'Delete'} ${of}`, { place: result }, async () => {
        const said = await changeLetters(verb, ticked.length ? { ids: ticked.map((d) => d.id) } : filter());
        if (said) await load(true);
        return said;
      });
      made.dataset.verb = verb;
      return made;
    }));
    if (inside) buttons.querySelector(`[data-verb=${inside}]`)?.focus();
  }

  async function load(fresh) {
    const asked = query;
    const list = await get('v1/dead-letters', { limit: pageSize, cursor: cursors(asked).at(-1), ...filter() });
    if (asked !== query) return; // another question was asked since
    if (fresh) rows.show(list.items);
    else rows.refresh(list.items);
    put(hint, reasons[asked.get('reason')] ?? '');
    pages.show('dead-letters', asked, list.next_cursor, list.items.length);
    if (fresh) matched = null;
    if (!list.next_cursor && !cursors(asked).length) matched = list.items.length;
    else if (!Object.keys(filter()).length) matched = total || null;
    else if (fresh && !lacks.has('operate')) matched = (await change('POST', 'v1/dead-letters/retry', { ...filter(), dry_run: true })).matched;
    buttons.dataset.of = '';
    offer();
  }

  form.show(query);
  return {
    title: 'Dead letters',
    node: el('div', {}, el('h1', {}, 'Dead letters'), form, hint, needs('operate'), bar.node, rows.node, pages),
    load,
    ask(newQuery) {
      query = newQuery;
      form.show(query);
      put(result, '');
    },
    stats(stats) {
      total = stats.fleet.dead;
    },
    event: (type) => type === 'dead',
  };
}
