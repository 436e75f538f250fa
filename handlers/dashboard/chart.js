// Charts of our own: lines and stacked bars over time, with axes, a tooltip by pointer and by keyboard, and a table.

import { el, format } from './dom.js';

const space = 'http://www.w3.org/2000/svg';
const height = 190;
const rounds = [5, 10, 15, 30, 60, 120, 180, 240, 360, 720]; // minutes between two times at the axis
const room = 64; // for one of them
const edge = { top: 10, right: 12, bottom: 24, left: 46 };

function svg(tag, props = {}, ...children) {
  const made = document.createElementNS(space, tag);
  for (const [name, value] of Object.entries(props)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// ceiling returns the top of an axis that holds a value: 1, 2 or 5 times a power of ten.
export function ceiling(value) {
  if (value <= 4) return 4;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 8, 10].map((n) => n * power).find((n) => n >= value);
}

// clock writes the time of day.
export const clock = (at) => at.toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' });

// chart makes a chart. Each of its series has a name and a class, which style.css gives a colour; stacked draws bars. What
// draw gets are the times and, for each series, its values; null where there is none.
export function chart({ title, series, stacked = false, write = short }) {
  const canvas = svg('svg', { 'aria-hidden': 'true', height });
  const tip = el('div', { className: 'tip', hidden: true });
  const field = el('div', {
    className: 'field', tabIndex: 0, role: 'slider', 'aria-label': title, 'aria-valuemin': '0', 'aria-orientation': 'horizontal', keydown: key,
    focus: () => point(at ?? times.length - 1), blur: hide, pointermove: follow, pointerdown: follow, pointerleave: () => field !== document.activeElement && hide(),
  }, canvas, tip);
  const legend = el('ul', { className: 'legend' }, series.map(({ name, className }) => el('li', {}, el('i', { className: `mark ${className}` }), name)));
  const rows = el('tbody');
  const details = el('details', { toggle: () => details.open && list() }, el('summary', { 'aria-label': `${title} as a table` }, 'As a table'),
    el('div', { className: 'scroll', tabIndex: 0, role: 'region', 'aria-label': `Table of ${title}` }, el('table', {},
      el('caption', { className: 'hidden' }, title),
      el('thead', {}, el('tr', {}, ['Time', ...series.map(({ name }) => name)].map((name) => el('th', { scope: 'col' }, name)))), rows)));
  const node = el('figure', { className: 'chart' }, el('figcaption', {}, el('h3', {}, title), legend), field, details);
  let times = [];
  let data = [];
  let at = null;
  let top = 4;

  const width = () => Math.max(field.clientWidth, 240);
  const inner = () => width() - edge.left - edge.right;
  const x = (i) => edge.left + (stacked ? (i + 0.5) * inner() / times.length : i * inner() / Math.max(times.length - 1, 1));
  const y = (value) => height - edge.bottom - value / top * (height - edge.top - edge.bottom);
  const show = (value) => (value === null || value === undefined ? '–' : write === short ? format(value) : write(value));

  function draw(newTimes, newData) {
    times = newTimes;
    data = newData;
    field.setAttribute('aria-valuemax', String(times.length - 1));
    const sums = times.map((_, i) => data.reduce((sum, values) => (stacked ? sum + (values[i] ?? 0) : Math.max(sum, values[i] ?? 0)), 0));
    top = ceiling(Math.max(0, ...sums));
    paint();
    if (details.open) list();
    if (at !== null && !tip.hidden) point(Math.min(at, times.length - 1));
    else describe(times.length - 1);
  }

  function paint() {
    if (!times.length) return;
    canvas.setAttribute('width', width());
    canvas.replaceChildren(...axes(), ...(stacked ? bars() : lines()), svg('line', { class: 'cursor', y1: edge.top, y2: height - edge.bottom, x1: -9, x2: -9 }));
  }

  function axes() {
    const parts = [0, 0.25, 0.5, 0.75, 1].flatMap((share) => {
      const value = top * share;
      return [svg('line', { class: share ? 'grid' : 'base', x1: edge.left, x2: width() - edge.right, y1: y(value), y2: y(value) }),
        svg('text', { x: edge.left - 6, y: y(value) + 4, 'text-anchor': 'end' }, write(value))];
    });
    const minutes = (times.at(-1) - times[0]) / 60e3;
    const every = rounds.find((n) => minutes / n * room <= inner()) ?? rounds.at(-1);
    times.forEach((time, i) => {
      if ((time.getHours() * 60 + time.getMinutes()) % every || x(i) > width() - edge.right - 12) return;
      parts.push(svg('text', { x: x(i), y: height - 6, 'text-anchor': 'middle' }, clock(time)));
    });
    return parts;
  }

  function lines() {
    return series.map(({ className }, s) => {
      let path = '';
      let down = false;
      data[s].forEach((value, i) => {
        if (value === null || value === undefined) { down = false; return; }
        path += `${down ? 'L' : 'M'}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
        if (!down && (data[s][i + 1] ?? null) === null) path += 'h0.1'; // a single point shows too
        down = true;
      });
      return svg('path', { class: `line ${className}`, d: path });
    });
  }

  function bars() {
    const wide = Math.max(1, inner() / times.length - 1);
    return times.flatMap((_, i) => {
      let below = 0;
      return series.flatMap(({ className }, s) => {
        const value = data[s][i] ?? 0;
        if (!value) return [];
        const bar = svg('rect', { class: `column ${className}`, x: (x(i) - wide / 2).toFixed(1), width: wide.toFixed(1), y: y(below + value).toFixed(1), height: Math.max(0.5, y(below) - y(below + value)).toFixed(1) });
        below += value;
        return [bar];
      });
    });
  }

  const sentence = (i) => `${clock(times[i])}: ${series.map(({ name }, s) => `${name} ${show(data[s][i])}`).join(', ')}`;

  function describe(i) {
    if (i < 0) return;
    field.setAttribute('aria-valuenow', String(i));
    field.setAttribute('aria-valuetext', sentence(i));
  }

  // point shows the values at one time.
  function point(i) {
    if (i < 0) return;
    at = i;
    describe(i);
    mark(x(i));
    tip.replaceChildren(el('b', {}, clock(times[i])), ...series.map(({ name, className }, s) => el('div', {}, el('i', { className: `mark ${className}` }), `${name} ${show(data[s][i])}`)));
    tip.hidden = false;
    tip.style.left = `${Math.max(0, Math.min(x(i) + 10, width() - tip.offsetWidth - 4))}px`;
    if (x(i) + 10 + tip.offsetWidth > width()) tip.style.left = `${Math.max(0, x(i) - 10 - tip.offsetWidth)}px`;
  }

  function hide() {
    tip.hidden = true;
    at = null;
    mark(-9);
  }

  const mark = (place) => ['x1', 'x2'].forEach((name) => canvas.querySelector('.cursor')?.setAttribute(name, place));

  function follow(event) {
    const share = (event.clientX - field.getBoundingClientRect().left - edge.left) / inner();
    point(Math.max(0, Math.min(times.length - 1, Math.round(share * (times.length - 1)))));
  }

  function key(event) {
    const now = at ?? times.length - 1;
    const to = { ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1, PageUp: now + 10, PageDown: now - 10, Home: 0, End: times.length - 1 }[event.key];
    if (event.key === 'Escape') hide();
    if (to === undefined) return;
    event.preventDefault();
    point(Math.max(0, Math.min(times.length - 1, to)));
  }

  function list() {
    rows.replaceChildren(...times.map((time, i) => el('tr', {}, el('th', { scope: 'row' }, clock(time)), series.map((_, s) => el('td', { className: 'num' }, show(data[s][i]))))).reverse());
  }

  new ResizeObserver(paint).observe(field);
  return { node, draw };
}

// short writes a number at an axis.
const short = (value) => compact.format(value);
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
