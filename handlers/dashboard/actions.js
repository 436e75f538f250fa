// The user's actions: buttons, questions, and their results.

import { TokenNeeded, change, lacks, part } from './api.js';
import { count, el, put } from './dom.js';

const outOfScope = (scope) => `Your token does not have the scope “${scope}”.`;

// action makes a button that does some work, once at a time. The result of work is shown in place, and so is its error. The
// button is not disabled meanwhile, because it would lose the focus.
export function action(name, { scope = 'operate', place, about = '', className = '' }, work) {
  const label = about ? `${name} ${about}` : name;
  const made = el('button', { type: 'button', className, dataset: { key: label }, 'aria-label': label, click: run }, name);
  if (lacks.has(scope)) {
    made.setAttribute('aria-disabled', 'true');
    made.title = outOfScope(scope);
  }
  async function run() {
    if (made.ariaBusy) return;
    if (lacks.has(scope)) {
      put(place, outOfScope(scope));
      return;
    }
    made.ariaBusy = 'true';
    place.dataset.tone = '';
    try {
      put(place, await work() ?? '');
    } catch (error) {
      if (error instanceof TokenNeeded) document.dispatchEvent(new Event('tokenneeded'));
      if (error.code === 'missing_scope') lacks.add(scope);
      place.dataset.tone = 'bad';
      put(place, `That failed: ${error.message}.`);
    }
    made.ariaBusy = null;
  }
  return made;
}

// needs says which scope a token lacks for the actions beside it, or nothing.
export const needs = (scope) => lacks.has(scope) && el('p', { className: 'quiet' }, `${outOfScope(scope)} You can look, and change nothing here.`);

// ask asks a question in a dialog, with fields to fill in. It returns their values, or null if the user cancelled.
export function ask({ title, text = [], fields = [], yes, danger = false }) {
  return new Promise((resolve) => {
    const inputs = fields.map(({ name, label, hint, ...props }) => {
      const input = el('input', { id: `d-${name}`, name, autocomplete: 'off', ...props });
      return [input, props.type === 'checkbox' ? el('label', { className: 'check' }, input, ` ${label}`)
        : el('div', {}, el('label', { htmlFor: input.id }, label), input, hint && el('p', { className: 'hint' }, hint))];
    });
    const answer = (value) => {
      dialog.close();
      dialog.remove();
      resolve(value);
    };
    const read = () => Object.fromEntries(inputs.map(([input]) => [input.name, input.type === 'checkbox' ? input.checked : input.value.trim()]));
    const dialog = el('dialog', { 'aria-labelledby': 'd-title', cancel: (event) => { event.preventDefault(); answer(null); } },
      el('form', { submit: (event) => { event.preventDefault(); answer(read()); } },
        el('h2', { id: 'd-title' }, title), [text].flat().map((line) => el('p', { className: 'given' }, line)),
        inputs.map(([, field]) => field),
        el('div', { className: 'answers' },
          el('button', { type: 'button', value: 'no', click: () => answer(null) }, 'Cancel'),
          el('button', { type: 'submit', value: 'yes', className: danger ? 'danger' : 'main' }, yes))));
    document.body.append(dialog);
    dialog.showModal();
    (inputs[0]?.[0] ?? dialog.querySelector('button')).focus();
  });
}

const did = { pause: 'Paused', resume: 'Resumed', block: 'Blocked', unblock: 'Unblocked', reset: 'Reset', probe: 'Probed' };
const names = { pause: 'Pause…', resume: 'Resume', block: 'Block…', unblock: 'Unblock', reset: 'Reset', probe: 'Probe now' };

// hints say what each action on hosts does.
export const hints = {
  probe: 'Ends its wait: it is tried now.',
  reset: 'Closes its circuit breaker and forgets its failures.',
  pause: 'Makes no attempts. New deliveries are accepted and wait.',
  resume: 'Ends the pause.',
  block: 'Refuses new deliveries. Pending ones become dead letters.',
  unblock: 'Ends the block. Dead letters stay.',
};

// sensible returns the actions that make sense for a host in its state.
export function sensible({ state }) {
  const sick = ['throttled', 'refusing', 'failing', 'open', 'unavailable'].includes(state);
  return Object.entries({
    resume: state === 'paused', unblock: state === 'blocked', probe: sick, reset: sick,
    pause: state !== 'paused' && state !== 'blocked', block: state !== 'blocked',
  }).filter(([, does]) => does).map(([verb]) => verb);
}

// order asks for the reason and the end of a pause or block.
function order(verb, hosts, pending) {
  const which = hosts.length === 1 ? hosts[0].host : count(hosts.length, 'host');
  const lost = pending ? [`Deliveries pending now: ${pending}. They become dead letters.`] : [];
  return ask({
    title: `${names[verb].slice(0, -1)} ${which}?`, text: [hints[verb], ...(verb === 'block' ? lost : [])], yes: names[verb].slice(0, -1), danger: verb === 'block',
    fields: [
      { name: 'reason', label: 'Reason (optional)', type: 'text', maxLength: 500 },
      { name: 'until', label: 'Until (optional)', type: 'datetime-local', hint: 'In your time zone. Without it, until somebody ends it.' },
      { name: 'subdomains', label: 'and all its subdomains', type: 'checkbox' },
    ],
  });
}

// orderBody is the body of a pause or block: only what was filled in, and none if nothing was.
function orderBody({ reason, until, subdomains }) {
  const body = { ...(reason && { reason }), ...(until && { until: new Date(until).toISOString() }), ...(subdomains && { subdomains }) };
  return Object.keys(body).length ? body : undefined;
}

// hostActions makes the buttons for an action on hosts, which chosen returns. changed gets each host as it is afterwards.
export function hostActions(verbs, place, chosen, changed) {
  return verbs.map((verb) => {
    const made = action(names[verb], { place }, async () => {
      const hosts = chosen();
      const asks = verb === 'pause' || verb === 'block';
      const given = asks ? await order(verb, hosts, hosts.reduce((sum, h) => sum + h.pending, 0)) : {};
      return given && each(hosts, async (h) => {
        changed(await change('POST', `v1/hosts/${part(h.host)}/${verb}`, orderBody(given)));
        return h.host;
      }, did[verb]);
    });
    made.dataset.verb = verb;
    made.title ||= hints[verb];
    return made;
  });
}

// each does the work for each of the hosts and says how far it came. After a failure it does not go on.
async function each(hosts, work, done) {
  let n = 0;
  for (const h of hosts) {
    try {
      await work(h);
    } catch (error) {
      if (error instanceof TokenNeeded || hosts.length === 1 || error.code === 'missing_scope') throw error;
      throw new Error(`${done} ${n} of ${count(hosts.length, 'host')}; ${h.host}: ${error.message}`);
    }
    n++;
  }
  return hosts.length === 1 ? `${done} ${hosts[0].host}.` : `${done} ${count(n, 'host')}.`;
}

// changeLetters retries or deletes dead letters, after the user confirmed how many.
export async function changeLetters(verb, which) {
  const run = (body) => (verb === 'retry' ? change('POST', 'v1/dead-letters/retry', body) : change('DELETE', 'v1/dead-letters', body));
  const { matched } = await run({ ...which, dry_run: true });
  if (!matched) return 'There is none any more.';
  const meant = count(matched, 'dead letter');
  const name = verb === 'retry' ? 'Retry' : 'Delete';
  const text = verb === 'retry' ? 'They are pending again, with no attempts spent. Those for hosts that are blocked or unavailable stay dead.'
    : 'This cannot be undone.';
  if (!await ask({ title: `${name} ${meant}?`, text: [...described(which), text], yes: `${name} ${meant}`, danger: verb === 'delete' })) return null;
  const { retried, deleted, superseded } = await run(which);
  const stay = superseded ? ` ${count(superseded, 'stays', 'stay')} dead, because the object was deleted since.` : '';
  return `${verb === 'retry' ? 'Retried' : 'Deleted'} ${retried ?? deleted} of ${meant}.${stay}`;
}

const described = ({ ids, ...filter }) => {
  const parts = Object.entries(filter).map(([name, value]) => `${name} ${value}`);
  return parts.length ? [`With ${parts.join(', ')}.`] : ids ? [] : ['These are all dead letters there are.'];
};
