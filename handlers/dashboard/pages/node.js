// Does the node work, how busy is it, and which version is it?

import { Refused, get } from '../api.js';
import { el, facts, format, lasted, pill, section, swap, when } from '../dom.js';
import { outcomes } from '../words.js';
import { table } from '../table.js';

export function node() {
  const lead = el('div', { className: 'lead' });
  const known = el('div');
  const store = el('div');
  const rows = table({
    label: 'Attempts since the start, by outcome', key: ([outcome]) => outcome, empty: () => 'No attempt has ended yet.',
    columns: [
      { title: 'Outcome', cell: ([outcome]) => pill(outcome) },
      { title: 'Attempts', num: true, cell: ([, n]) => format(n) },
      { title: 'Meaning', wide: true, cell: ([outcome]) => outcomes[outcome] ?? '' },
    ],
  });

  async function load(fresh) {
    const [ready, { node: n, fleet }] = await Promise.all([readiness(), get('v1/stats')]);
    swap(lead, el('p', {}, pill(ready ? 'open' : 'healthy', ready ? 'not ready' : 'ready'), ' ', ready || (n?.concurrency ? 'The store answers, names are resolved, and it delivers.' : 'The store answers.')));
    swap(known, n ? facts([
      ['Version', n.version], ['Up for', lasted(n.uptime_seconds)], ['Started', when(n.started_at)], ['Signs by', n.signing],
      ['In flight', n.concurrency ? `${format(n.in_flight)} of ${format(n.concurrency)}` : format(n.in_flight)],
      ['Attempts per second', format(n.per_second.attempts)],
      ['Delivers', n.concurrency === 0 ? 'no: it only takes calls' : null],
      ['Webhook behind by', n.webhook_lag_seconds ? lasted(n.webhook_lag_seconds) : null],
    ]) : el('p', { className: 'none' }, 'The node tells nothing of itself.'));
    swap(store, facts([
      ['Pending', format(fleet.pending)], ['Dead letters', format(fleet.dead)], ['Activities held', format(fleet.activities)], ['Delivered in all', format(fleet.delivered)],
      ['Accepted per second', format(fleet.per_second.accepted)], ['Delivered per second', format(fleet.per_second.delivered)], ['Dead letters dropped', fleet.dropped ? format(fleet.dropped) : null],
    ]));
    const attempts = Object.entries(n?.attempts ?? {}).filter(([, count]) => count).sort(([, a], [, b]) => b - a);
    if (fresh || attempts.length > rows.size()) rows.show(attempts);
    else attempts.forEach(rows.update);
  }

  return {
    title: 'Node',
    node: el('div', {}, el('h1', {}, 'Node'), el('p', { className: 'hint' }, 'The node that serves this page. Each node of a fleet has such a page of its own.'), lead,
      el('div', { className: 'columns' }, section('This node', known), section('The store, which all nodes share', store)), section('Attempts since the start', rows.node)),
    load,
  };
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
