// The past as charts: what the node kept of the last hour and day.

import { Refused, get } from './api.js';
import { chart } from './chart.js';
import { count, el, format, page, put, section, set, span } from './dom.js';
import { groups } from './words.js';

const ranges = { hour: [60, 60], day: [1440, 144] }; // minutes, and how many steps a chart shows

// pasts makes the part of a page with the charts. Its load gets the range.
export function pasts() {
  const note = el('p', { className: 'none', hidden: true });
  const sum = el('p', { className: 'sum' });
  const links = Object.keys(ranges).map((range) => el('a', { href: page('', range === 'hour' ? {} : { range }), className: 'button', dataset: { range } }, `Last ${range}`));
  const charts = {
    done: chart({ title: 'Delivered and failed', series: [{ name: 'delivered', className: 'c1' }, { name: 'dead letters', className: 'c3' }] }),
    attempts: chart({ title: 'Attempts by outcome', stacked: true, series: Object.keys(groups).map((name, i) => ({ name, className: `c${i + 1}` })) }),
    pending: chart({ title: 'Pending', series: [{ name: 'pending', className: 'c2' }] }),
    latency: chart({ title: 'Time from accepted to delivered', write: span, series: [{ name: 'median', className: 'c2' }, { name: '95th percentile', className: 'c4' }] }),
  };
  const grid = el('div', { className: 'charts' }, Object.values(charts).map(({ node }) => node));
  const node = section('Past', el('div', { className: 'bar' }, el('div', { className: 'ranges' }, links), sum), note, grid);

  async function load(range) {
    const [minutes, steps] = ranges[range] ?? ranges.hour;
    for (const link of links) set(link, { 'aria-current': String(link.dataset.range === (ranges[range] ? range : 'hour')) });
    try {
      const kept = await get('v1/stats/history', { minutes });
      show(thin(kept.items, Math.ceil(minutes * 60 / kept.step_seconds / steps)), kept);
      return kept.items;
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 404) throw error;
      say('This node keeps no history, so there are no charts.');
      return [];
    }
  }

  function say(text) {
    put(note, text);
    note.hidden = !text;
    grid.hidden = Boolean(text);
    if (text) put(sum, '');
  }

  function show(items, kept) {
    if (!items.length) return say('There is no history yet: the node has just started.');
    say('');
    const total = (name) => kept.items.reduce((n, item) => n + item[name], 0);
    put(sum, `${format(total('delivered'))} delivered, ${count(total('dead'), 'dead letter')}, ${format(total('accepted'))} accepted`);
    const times = items.map((item) => new Date(item.at));
    const of = (pick) => items.map(pick);
    charts.done.draw(times, [of((i) => i.delivered), of((i) => i.dead)]);
    charts.attempts.draw(times, Object.values(groups).map((outcomes) => of((i) => outcomes.reduce((n, o) => n + (i.attempts[o] ?? 0), 0))));
    charts.pending.draw(times, [of((i) => i.pending)]);
    charts.latency.draw(times, [of((i) => i.latency_ms?.p50 || null), of((i) => i.latency_ms?.p95 || null)]);
    return undefined;
  }
  return { node, load };
}

// thin joins steps, so that n of them become one: counts are added, of what pends the last counts, of durations the longest.
export function thin(items, n) {
  if (n <= 1) return items;
  const joined = [];
  for (let end = items.length; end > 0; end -= n) joined.unshift(items.slice(Math.max(0, end - n), end).reduce(join));
  return joined;
}

function join(a, b) {
  const attempts = { ...a.attempts };
  for (const [outcome, n] of Object.entries(b.attempts)) attempts[outcome] = (attempts[outcome] ?? 0) + n;
  const longest = (name) => Math.max(a.latency_ms?.[name] ?? 0, b.latency_ms?.[name] ?? 0);
  return {
    at: a.at, accepted: a.accepted + b.accepted, delivered: a.delivered + b.delivered, dead: a.dead + b.dead,
    attempts, pending: b.pending, latency_ms: { p50: longest('p50'), p95: longest('p95') },
  };
}
