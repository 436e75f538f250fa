// Which nodes are there, is each of them well, how busy are they, and which versions do they run?

import { Refused, get, now } from '../api.js';
import { el, facts, format, lasted, pill, quiet, section, swap, text, when } from '../dom.js';
import { outcomes } from '../words.js';
import { table } from '../table.js';

const remembered = 600; // seconds that a node which is gone stays in the list

export function nodes() {
  const lead = el('p', { className: 'lead' });
  const warnings = el('ul', { className: 'problems', role: 'list' });
  const ready = el('div', { className: 'lead' });
  const known = el('div');
  const store = el('div');
  const seen = new Map(); // by name: the nodes that this page has listed
  let own; // version of the node that answers
  let partitions;

  const list = table({
    label: 'Nodes', key: (n) => n.name, empty: () => '',
    columns: [
      { title: 'Node', cell: (n) => el('div', {}, text(n.name), n.self && el('span', { className: 'more' }, ' · this node')) },
      { title: 'Work', cell: work },
      { title: 'Version', cell: (n) => version(n, own) },
      { title: 'Up for', cell: (n) => (n.started_at && !n.gone ? el('span', { className: 'whole', title: new Date(n.started_at).toLocaleString() }, lasted((now() - Date.parse(n.started_at)) / 1000)) : quiet()) },
      { title: 'In flight', cell: inFlight },
      { title: 'Partitions', num: true, cell: (n) => (n.delivers && !n.gone ? `${format(n.partitions)} of ${format(partitions)}` : quiet()) },
      { title: 'Last heard', cell: (n) => (n.gone ? when(n.last_heard_at) : el('span', { title: new Date(n.last_heard_at).toLocaleString() }, 'now')) },
    ],
  });
  const attempts = table({
    label: 'Attempts of this node since its start, by outcome', key: ([outcome]) => outcome, empty: () => 'No attempt has ended yet.',
    columns: [
      { title: 'Outcome', cell: ([outcome]) => pill(outcome) },
      { title: 'Attempts', num: true, cell: ([, n]) => format(n) },
      { title: 'Meaning', wide: true, cell: ([outcome]) => outcomes[outcome] ?? '' },
    ],
  });

  for (const { node } of [list, attempts]) node.classList.add('live');

  async function load(fresh) {
    const [fleet, reason, { node: n, fleet: totals }] = await Promise.all([get('v1/nodes'), readiness(), get('v1/stats')]);
    showFleet(fleet);
    swap(ready, el('p', {}, pill(reason ? 'open' : 'healthy', reason ? 'not ready' : 'ready'), ' ', reason || (n?.concurrency ? 'The store answers, names are resolved, and it delivers.' : 'The store answers.')));
    swap(known, n ? facts([
      ['Version', n.version], ['Started', when(n.started_at)], ['Signs by', n.signing],
      ['Attempts per second', format(n.per_second.attempts)], ['Webhook behind by', n.webhook_lag_seconds ? lasted(n.webhook_lag_seconds) : null],
    ]) : el('p', { className: 'none' }, 'The node says nothing of itself.'));
    swap(store, facts([
      ['Pending', format(totals.pending)], ['Dead letters', format(totals.dead)], ['Activities held', format(totals.activities)], ['Delivered in all', format(totals.delivered)],
      ['Accepted per second', format(totals.per_second.accepted)], ['Delivered per second', format(totals.per_second.delivered)], ['Dead letters dropped', totals.dropped ? format(totals.dropped) : null],
    ]));
    const ended = Object.entries(n?.attempts ?? {}).filter(([, number]) => number).sort(([, a], [, b]) => b - a);
    if (fresh || ended.length > attempts.size()) attempts.show(ended);
    else ended.forEach(attempts.update);
  }

  // showFleet shows the nodes, and for a while those that are gone.
  function showFleet(fleet) {
    const before = [...seen.keys()].join();
    own = fleet.items.find((n) => n.self)?.version;
    partitions = fleet.partitions;
    for (const n of seen.values()) n.gone = true;
    for (const n of fleet.items) seen.set(n.name, n);
    for (const n of [...seen.values()]) if (n.gone && now() - Date.parse(n.last_heard_at) > remembered * 1000) seen.delete(n.name);
    swap(lead, summary(fleet.items));
    swap(warnings, ...faults(fleet.items).map((said) => el('li', { dataset: { tone: 'warn' } }, el('p', {}, said))));
    warnings.hidden = !warnings.firstChild;
    const rows = [...seen.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
    if (before === [...seen.keys()].join() && list.size()) rows.forEach(list.update);
    else list.show(rows);
  }

  return {
    title: 'Nodes',
    node: el('div', {}, el('h1', {}, 'Nodes'), lead, warnings, list.node,
      el('div', { className: 'columns' }, section('This node', ready, known), section('The store, which all nodes share', store)),
      section('Attempts of this node since its start', attempts.node)),
    load,
  };
}

// work says what a node does.
function work(n) {
  if (n.gone) return pill('left', 'gone');
  if (!n.delivers) return pill('calls', 'takes calls only');
  return n.has_room ? pill('healthy', 'delivers') : pill('throttled', 'no room');
}

// version marks a version that is not that of the node that answers.
function version(n, own) {
  if (!n.version) return quiet();
  return n.version === own ? text(n.version) : pill('throttled', n.version);
}

function inFlight(n) {
  if (!n.concurrency || n.gone) return quiet();
  return el('div', { className: 'load' }, el('meter', { max: n.concurrency, value: n.in_flight, 'aria-label': `In flight on ${n.name}` }),
    el('span', {}, `${format(n.in_flight)} of ${format(n.concurrency)}`));
}

// summary says in a sentence which nodes there are.
function summary(all) {
  const busy = all.reduce((n, { in_flight: attempts }) => n + attempts, 0);
  const room = all.reduce((n, { concurrency }) => n + concurrency, 0);
  const share = all.length === 1 ? '1 node works on this store' : `${format(all.length)} nodes share this store`;
  return room ? `${share}. ${format(busy)} of at most ${format(room)} attempts ${busy === 1 ? 'is' : 'are'} in flight.` : `${share}.`;
}

// faults are what an operator should look at.
function faults(all) {
  const list = [];
  const deliver = all.filter((n) => n.delivers);
  const versions = new Map();
  for (const n of all) versions.set(n.version, (versions.get(n.version) ?? 0) + 1);
  if (!deliver.length) list.push('No node delivers: what is accepted waits.');
  else if (!deliver.some((n) => n.has_room)) list.push('No node has room for more work: slow hosts hold all slots, or name servers are away.');
  if (versions.size > 1) list.push(`The nodes run different versions: ${[...versions].map(([version, n]) => `${version} on ${format(n)}`).join(', ')}.`);
  return list;
}

// readiness returns why the node can't work, or nothing.
async function readiness() {
  try {
    await get('readyz');
    return '';
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return error.message;
  }
}
