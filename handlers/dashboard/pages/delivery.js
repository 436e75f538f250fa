// Why has this post not reached this inbox?

import { Refused, get, part } from '../api.js';
import { action, changeLetters, needs } from '../actions.js';
import { answer, count, el, facts, format, hostLink, link, page, pill, section, status, swap, text, when } from '../dom.js';
import { table } from '../table.js';
import { outcomes, reasons, states, waiting } from '../words.js';

export function delivery([, id]) {
  const lead = el('div', { className: 'lead' });
  const known = el('div');
  const buttons = el('div', { className: 'buttons' });
  const result = status();
  let over = false; // it was retried or deleted here
  const rows = table({
    label: 'Attempts, newest first', key: (a) => a.at, empty: () => 'No attempt has been made yet.',
    columns: [
      { title: 'Time', cell: (a) => when(a.at) },
      { title: 'Answer', cell: (a) => (a.status ? String(a.status) : 'none') },
      { title: 'Outcome', cell: (a) => pill(a.outcome) },
      { title: 'Meaning', cell: (a) => outcomes[a.outcome] ?? '' },
      { title: 'Error', wide: true, cell: (a) => text(a.error || '–', 'error') },
      { title: 'Took', num: true, cell: (a) => `${format(a.duration_ms)} ms` },
    ],
  });

  function show(d, host) {
    const dead = d.state === 'dead';
    swap(lead, el('p', {}, pill(d.reason ?? d.state, dead ? `dead: ${d.reason}` : 'pending'), ' ', el('span', { className: 'quiet' }, dead ? 'since ' : 'next try ', when(dead ? d.died_at : d.next_attempt_at, !dead))),
      el('p', { className: 'why' }, dead ? reasons[d.reason] : waiting(d, host)), says(d), advice(d, host));
    swap(known, facts([
      ['Activity', link(page(`activities/${d.url.split('/').at(-1)}`), text(d.activity_id))],
      ['Inbox', text(d.inbox)],
      ['Host', el('span', {}, hostLink(d.host), ' ', pill(host.state))],
      ['Actors', d.ids?.length ? text(d.ids.join(', ')) : null],
      ['Attempts spent', format(d.attempts)],
      ['Metadata', d.metadata && el('code', { className: 'given' }, JSON.stringify(d.metadata))],
    ]));
    if (!dead) buttons.replaceChildren();
    else if (!buttons.firstChild) {
      buttons.replaceChildren(...['retry', 'delete'].map((verb) => action(verb === 'retry' ? 'Retry…' : 'Delete…', { place: result }, async () => {
        const said = await changeLetters(verb, { ids: [d.id] });
        if (!said) return null;
        over = true;
        await load(true);
        return said;
      })));
    }
  }

  async function load(fresh) {
    try {
      const d = await get(`v1/deliveries/${part(id)}`);
      show(d, await get(`v1/hosts/${part(d.host)}`));
      over = false;
      if (fresh) rows.show(d.history);
      else rows.refresh(d.history);
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 404) throw error;
      swap(lead, el('p', { className: 'why' }, over ? 'It has ended.' : 'It is neither pending nor dead: it was delivered, cancelled or deleted. Deliveries that have ended are only counted.'));
      swap(known);
      buttons.replaceChildren();
      rows.show([]);
    }
  }

  return {
    title: 'Delivery',
    node: el('div', {}, el('p', { className: 'up' }, link(page('dead-letters'), 'Dead letters'), ' ', link(page('activities'), 'Activities')),
      el('h1', {}, 'Why it has not arrived'), lead, needs('operate'), el('div', { className: 'bar' }, buttons, result), known,
      section('Last attempts', el('p', { className: 'hint' }, 'At most five, newest first.'), rows.node)),
    load,
    event: (type, data) => data.id === id || type === 'host_state',
  };
}

// says is what the host said last.
function says({ last_attempt: last }) {
  if (!last || last.outcome === 'delivered') return '';
  return el('p', {}, `Last attempt ${last.status ? 'answered' : 'failed'}: `, text(answer(last), 'said'), ' ', when(last.at));
}

// advice says what comes next or can be done.
function advice(d, host) {
  if (d.state === 'dead' && (host.state === 'blocked' || host.state === 'unavailable')) return el('p', { className: 'hint' }, `A retry does nothing while the host is ${host.state}. ${states[host.state]}`);
  if (d.state === 'dead') return el('p', { className: 'hint' }, 'Retry it once the cause is gone: it is then pending again, with no attempts spent.');
  return d.attempts ? el('p', { className: 'hint' }, `${count(d.attempts, 'attempt was', 'attempts were')} spent so far.`) : '';
}
