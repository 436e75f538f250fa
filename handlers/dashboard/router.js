// Addresses. Each page has one of its own behind the #, which can be reloaded and shared. The node never gets to see it, so
// that names of hosts stay out of logs, and a proxy may serve the dashboard under any path.

import { page } from './dom.js';

let changed = () => {};

// routed calls back when the address changes.
export function routed(callback) {
  changed = callback;
  addEventListener('hashchange', callback);
}

// route reads the address: its parts and its query.
export function route() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  let parts = path.split('/').filter(Boolean);
  try {
    parts = parts.map(decodeURIComponent);
  } catch {
    parts = ['?']; // not escaped well: there is no such page
  }
  return { parts, query: new URLSearchParams(query) };
}

// go goes to a page. With replace, the address that it leaves is not one to come back to: a search that is being typed.
export function go(path, query, replace = false) {
  const hash = page(path, query);
  if (!replace) {
    location.hash = hash;
  } else {
    history.replaceState(null, '', hash);
    changed();
  }
}

// values returns the query as an object. Cursors are the pages before this one, the newest last.
export const values = (query) => Object.fromEntries([...query].filter(([name]) => name !== 'cursor'));
export const cursors = (query) => query.getAll('cursor');
