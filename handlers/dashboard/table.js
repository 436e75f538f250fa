// Lists.

import { count, el, page, put, set, status, swap } from './dom.js';
import { cursors, values } from './router.js';

// table shows a page of things that have keys. While somebody reads it, rows stay where they are: refresh changes what is in
// them, and offers to show what came or went. Elements lose their implicit roles when style.css stacks the cells of a row, so
// the roles are explicit; then each cell also shows its column's name.
//
// A column has a title, cell (makes what a cell shows), and maybe num (numbers), wide (takes the room that is left) and
// sort, the name of an order that sorted is called with. With chosen, rows can be selected; it is called after each change.
export function table({ label, key, columns, empty, chosen, sorted }) {
  const head = el('thead', { role: 'rowgroup' });
  const body = el('tbody', { role: 'rowgroup' });
  const grid = el('table', { role: 'table', 'aria-label': label }, head, body);
  const none = el('p', { className: 'none', hidden: true });
  const changed = el('div', { className: 'changed', role: 'status' });
  const rows = new Map(); // key: { tr, item, tick }
  let order = '';

  function header() {
    const cells = columns.map(({ title, num, sort }) => {
      const active = sort && sort === order;
      const content = sort ? el('button', { type: 'button', dataset: { key: `sort ${sort}` }, click: () => sorted(sort) },
        title, el('span', { className: 'arrow', 'aria-hidden': 'true' }, active ? (num ? ' ↓' : ' ↑') : '')) : title;
      return el('th', {
        role: 'columnheader', scope: 'col', className: num ? 'num' : '', 'aria-sort': active ? (num ? 'descending' : 'ascending') : null,
      }, content);
    });
    if (chosen) cells.unshift(el('td', { role: 'cell', className: 'tick' }));
    swap(head, el('tr', { role: 'row' }, cells));
  }

  function make(item) {
    const id = key(item);
    const tr = el('tr', { role: 'row' });
    const tick = chosen && el('input', { type: 'checkbox', 'aria-label': `Select ${id}`, change: () => chosen(selected()) });
    if (tick) tr.append(el('td', { role: 'cell', className: 'tick' }, el('label', {}, tick)));
    columns.forEach(({ title, num, wide }, i) => {
      const cell = i ? el('td', { role: 'cell' }) : el('th', { role: 'rowheader', scope: 'row' });
      set(cell, { className: [num && 'num', wide && 'wide'].filter(Boolean).join(' '), dataset: { label: title } });
      tr.append(cell);
    });
    rows.set(id, { tr, item, tick });
    fill(id, item);
    return tr;
  }

  function fill(id, item) {
    const row = rows.get(id);
    row.item = item;
    const cells = [...row.tr.cells].slice(chosen ? 1 : 0);
    columns.forEach(({ cell }, i) => swap(cells[i], cell(item)));
  }

  // show replaces all rows.
  function show(items, sort = '') {
    order = sort;
    header();
    const ticked = new Set(selected().map(key));
    rows.clear();
    body.replaceChildren(...items.map(make));
    for (const [id, { tick }] of rows) if (tick) tick.checked = ticked.has(id);
    grid.hidden = !items.length;
    none.hidden = items.length > 0;
    put(none, empty());
    changed.replaceChildren();
    chosen?.(selected());
  }

  // refresh changes the rows that are there. Rows that came or went are only shown when asked for, unless there were none.
  function refresh(items) {
    if (!rows.size) return show(items, order);
    const fresh = new Set(items.map(key));
    for (const item of items) if (rows.has(key(item))) fill(key(item), item);
    for (const [id, { tr }] of rows) tr.classList.toggle('stale', !fresh.has(id));
    const came = [...fresh].filter((id) => !rows.has(id)).length;
    const went = [...rows.keys()].filter((id) => !fresh.has(id)).length;
    const moved = [...fresh].join('\n') !== [...rows.keys()].join('\n');
    const said = came ? `${format(came)} new here` : went ? `${format(went)} no longer here` : 'The order has changed';
    if (!moved) changed.replaceChildren();
    else if (!changed.firstChild) {
      changed.append(el('span', {}, said), ' ', el('button', { type: 'button', click: () => { show(latest, order); grid.focus(); } }, 'Show changes'));
    } else put(changed.firstChild, said);
    latest = items;
    return undefined;
  }
  let latest = [];
  const format = (n) => count(n, 'row');

  const selected = () => [...rows.values()].filter(({ tick }) => tick?.checked).map(({ item }) => item);
  const selectAll = (checked) => {
    for (const { tick } of rows.values()) tick.checked = checked;
    chosen(selected());
  };
  grid.tabIndex = -1;
  return {
    node: el('div', { className: 'list' }, changed, grid, none),
    show, refresh, selected, selectAll, update: (item) => rows.has(key(item)) && fill(key(item), item), size: () => rows.size,
  };
}

// pager makes the links to the pages of a list.
export function pager(label) {
  const node = el('nav', { className: 'pager', 'aria-label': `Pages of ${label}` });
  // show shows them for an address, the cursor of the next page, and how many there are here.
  node.show = (path, query, next, here) => {
    const before = cursors(query);
    const to = (list) => `${page(path, values(query))}${list.map((c, i) => `${i || [...Object.values(values(query))].some(Boolean) ? '&' : '?'}cursor=${encodeURIComponent(c)}`).join('')}`;
    const step = (name, list) => (list ? el('a', { className: 'button', href: to(list), dataset: { key: name } }, name)
      : el('span', { className: 'button off' }, name));
    node.hidden = !before.length && !next;
    swap(node, el('span', { className: 'quiet' }, `Page ${before.length + 1}, ${count(here, 'row')}`),
      step('First', before.length ? [] : null), step('Previous', before.length ? before.slice(0, -1) : null), step('Next', next ? [...before, next] : null));
  };
  return node;
}

// filters makes a search form. Its values are the query of the address; changed is called with them, and with whether the
// user is still typing. A field has a name, a label, a type (text, search or select), and maybe options, hint and list.
export function filters(label, fields, changed) {
  const controls = new Map(fields.map((field) => [field.name, control(field)]));
  const read = () => Object.fromEntries([...controls].map(([name, input]) => [name, input.value.trim()]));
  let typing;
  function control({ name, type, options, hint, list, width }) {
    const id = `f-${name}`;
    if (type === 'select') {
      return el('select', { id, change: () => changed(read(), false) }, options.map(([value, title]) => el('option', { value }, title)));
    }
    return el('input', {
      id, type: 'search', placeholder: hint, autocomplete: 'off', spellcheck: false, list, className: width ?? '',
      input: () => {
        clearTimeout(typing);
        if (type === 'search') typing = setTimeout(() => changed(read(), true), 250);
      },
    });
  }
  const form = el('form', { role: 'search', 'aria-label': label, className: 'filters', submit: (event) => {
    event.preventDefault();
    clearTimeout(typing);
    changed(read(), false);
  } }, fields.map(({ name, label: title }) => el('div', {}, el('label', { htmlFor: `f-${name}` }, title), controls.get(name))),
  fields.some(({ type }) => type === 'text') && el('button', { type: 'submit' }, 'Search'));
  // show sets the values, but for the field that is being written in.
  form.show = (query) => {
    for (const [name, input] of controls) {
      const value = query.get(name) ?? '';
      if (input === document.activeElement && input.type === 'search') continue;
      if (input.tagName === 'SELECT' && ![...input.options].some((o) => o.value === value)) input.append(el('option', { value }, value));
      input.value = value;
    }
  };
  return form;
}

// selection is the bar above a table whose rows can be ticked: a box for the page, how many are ticked, buttons, and a result.
export function selection(noun, rows) {
  const all = el('input', { type: 'checkbox', change: () => rows().selectAll(all.checked) });
  const chosen = el('span', { className: 'chosen' });
  const buttons = el('div', { className: 'buttons' });
  const result = status();
  return {
    buttons, result,
    node: el('div', { className: 'bar sticky' }, el('label', { className: 'check' }, all, ' Select page'), chosen, buttons, result),
    show(ticked) {
      put(chosen, ticked.length ? `${count(ticked.length, noun)} selected` : '');
      all.checked = ticked.length > 0 && ticked.length === rows().size();
      all.indeterminate = ticked.length > 0 && !all.checked;
    },
  };
}
