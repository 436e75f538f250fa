// Is anything wrong, and since when? Problems come first, each with a way to what is behind it.

import { Refused, get, now } from '../api.js';
import { count, el, format, hostLink, lasted, link, page, quiet, section, swap, when } from '../dom.js';
import { pasts } from '../history.js';
import { problems } from '../words.js';

const named = 5; // hosts of a problem
const old = 3600; // seconds that a delivery may wait before that is worth a line
const quietFor = 10; // minutes without a delivery
const behind = 120; // seconds that the webhook may be behind

export function overview(params, query) {
  const list = el('ul', { className: 'problems' });
  const tiles = el('dl', { className: 'tiles' });
  const past = pasts();
  let range = query.get('range') ?? 'hour';
  let found = [];
  let fleet;

  async function load() {
    const stats = await get('v1/stats');
    const [hosts, ready, history] = await Promise.all([bad(stats.fleet), readiness(), past.load(range)]);
    fleet = stats.fleet;
    found = [...ready, ...stats.warnings.map(warned), ...silence(fleet, history), ...hosts, ...webhook(stats.node), ...await oldest(fleet)];
    showProblems();
    showTiles(fleet);
  }

  // showProblems leaves the list as it is while the user is at it.
  function showProblems() {
    if (list.matches(':hover, :focus-within') && list.firstChild) return;
    swap(list, ...(found.length ? found.map(line) : [el('li', { dataset: { tone: 'good' } }, el('p', {}, el('b', {}, 'No problems. '), rest(fleet)))]));
  }

  function showTiles({ per_second: rate, pending, dead, activities, oldest_pending_at: since, hosts }) {
    const known = Object.values(hosts).reduce((n, m) => n + m, 0);
    swap(tiles, ...[
      ['Delivered per second', format(rate.delivered)],
      ['Pending', link(page('hosts', { sort: 'pending' }), format(pending))],
      ['Oldest pending', since ? link(page('hosts', { sort: 'oldest' }), when(since)) : quiet()],
      ['Dead letters', link(page('dead-letters'), format(dead))],
      ['Activities held', link(page('activities'), format(activities))],
      ['Hosts', link(page('hosts'), format(known))],
    ].map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value))));
  }

  return {
    title: 'Overview',
    node: el('div', {}, el('h1', {}, 'Overview'), section('Problems', list), section('Now', tiles), past.node),
    load,
    ask(newQuery) {
      range = newQuery.get('range') ?? 'hour';
    },
    stats: (stats) => showTiles(stats.fleet),
    event: () => true,
  };
}

const line = ({ tone, text, more, to }) => el('li', { dataset: { tone } },
  el('p', {}, el('b', {}, to ? link(to, text) : text), more ? ' ' : ''), more && el('p', { className: 'more' }, more));

const rest = ({ pending }) => (pending ? `${count(pending, 'delivery is', 'deliveries are')} pending.` : 'Nothing is pending.');

const warned = ({ message }) => ({ tone: 'bad', text: `${message[0].toUpperCase()}${message.slice(1)}.`, to: page('hosts', { state: 'refusing' }) });

// readiness asks the node whether it can work.
async function readiness() {
  const means = { store: 'The store is away', names: 'The name servers are away: no host name can be looked up', pool: 'The node does not deliver', starting: 'The node is starting' };
  try {
    await get('readyz');
    return [];
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return [{ tone: 'bad', text: `${means[error.reason] ?? 'The node is not ready'}.`, more: error.message === error.reason ? '' : error.message, to: page('nodes') }];
  }
}

// bad returns a line for each state of hosts that is a problem, with the hosts for which most is pending.
async function bad(fleet) {
  const states = Object.keys(problems).filter((state) => fleet.hosts[state]);
  return Promise.all(states.map(async (state) => {
    const { items } = await get('v1/hosts', { state, limit: named, sort: state === 'unavailable' ? '' : 'pending' });
    const hosts = items.flatMap((h, i) => [i ? ', ' : '', hostLink(h.host), h.pending ? el('span', { className: 'quiet' }, ` (${format(h.pending)} pending)`) : '']);
    const left = fleet.hosts[state] - items.length;
    return {
      tone: state === 'refusing' ? 'warn' : 'bad', text: `${count(fleet.hosts[state], 'host')} ${one(fleet.hosts[state], problems[state])}`, to: page('hosts', { state }),
      more: items.length && left > 0 ? [...hosts, ', ', link(page('hosts', { state }), `${format(left)} more`)] : hosts,
    };
  }));
}

// one puts a sentence about several hosts into the singular.
const one = (n, said) => (n === 1 ? said.replace(/^do not/, 'does not').replace(/^answer/, 'answers').replace('but refuse', 'but refuses').replace('their circuit breakers are', 'its circuit breaker is') : said);

// silence says that nothing is delivered though something pends.
function silence(fleet, history) {
  const recent = history.slice(-quietFor);
  const none = recent.length >= quietFor ? recent.every((step) => !step.delivered) : fleet.per_second.delivered === 0;
  if (!none || !fleet.pending) return [];
  const since = recent.length >= quietFor ? `${quietFor} minutes` : 'minute';
  return [{
    tone: 'warn', text: `Nothing was delivered in the last ${since}, though ${count(fleet.pending, 'delivery is', 'deliveries are')} pending.`, to: page('hosts', { sort: 'pending' }),
    more: 'See for which hosts they wait. If no host answers, this server’s network may be the cause.',
  }];
}

function webhook(node) {
  const lag = node?.webhook_lag_seconds ?? 0;
  if (lag < behind) return [];
  return [{ tone: 'bad', text: `The webhook is behind by ${lasted(lag)}.`, more: 'Your app does not take what the node posts to it. The node’s log has its answers.', to: page('nodes') }];
}

// oldest names the host for which a delivery has waited longest, if that is long.
async function oldest({ oldest_pending_at: since }) {
  const waited = since ? (now() - Date.parse(since)) / 1000 : 0;
  if (waited < old) return [];
  const { items: [host] } = await get('v1/hosts', { sort: 'oldest', limit: 1 });
  return [{
    tone: 'warn', text: `The oldest pending delivery has waited for ${lasted(waited)}.`, to: page('hosts', { sort: 'oldest' }),
    more: host && ['It goes to ', hostLink(host.host), ` (${host.state}).`],
  }];
}
