import assert from 'node:assert/strict';
import { test } from 'node:test';

import { MemoryKvStore } from '@fedify/fedify';
import { Postrider } from '@postrider/client';
import { PostriderQueue } from '@postrider/fedify';

import { until } from './app.mjs';
import { says, standIn } from './standin.mjs';

const activity = { id: 'https://app.example/a/1', type: 'Create' };
const accepted = { id: 'x', accepted: 1, rejected: [] };
const rsa = { keyId: 'https://app.example/users/alice#main-key', privateKey: { kty: 'RSA', n: 'n' } };
const ed25519 = { keyId: 'https://app.example/users/alice#key-2', privateKey: { kty: 'OKP', x: 'x' } };
const message = (user, more = {}) => ({
  type: 'outbox', keys: [ed25519, rsa], activity, inbox: `https://one.example/users/${user}/inbox`, actorIds: [`https://one.example/users/${user}`],
  headers: { 'Collection-Synchronization': `digest="${user}"` }, traceContext: { traceparent: '00-1-2-01' }, ...more,
});
const start = async (t, options, ...answers) => {
  const node = await standIn(t, ...answers);
  const kv = new MemoryKvStore();
  return { ...node, kv, queue: new PostriderQueue({ kv, client: new Postrider({ url: node.url, patience: 0 }), ...options }) };
};
const bodies = (asked) => asked.map((a) => JSON.parse(a.body));

test('all inboxes of an activity are one call', async (t) => {
  const { queue, asked } = await start(t, { call: () => ({ priority: 'high' }) }, says(202, accepted));
  await queue.enqueueMany([message('bob'), message('eve')]);
  assert.deepEqual(bodies(asked), [{
    activity, key: { key_id: rsa.keyId, private_key_jwk: rsa.privateKey }, priority: 'high',
    recipients: ['bob', 'eve'].map((user) => ({
      inbox: `https://one.example/users/${user}/inbox`, ids: [`https://one.example/users/${user}`], headers: { 'Collection-Synchronization': `digest="${user}"` },
    })),
  }]);
  assert.equal(asked[0].headers.traceparent, '00-1-2-01');
});

test('with an ordering key too, and activities are kept apart', async (t) => {
  const { queue, asked } = await start(t, {}, says(202, accepted), says(202, accepted), says(202, accepted));
  const ordered = { orderingKey: 'notes/1\nhttps://one.example' };
  await Promise.all([message('bob', ordered), message('eve', ordered), message('bob', { activity: { id: 'b' } })].map((m) => queue.enqueue(m)));
  await queue.enqueue(message('bob', { keys: [ed25519] }));
  const calls = bodies(asked);
  assert.deepEqual(calls.map((c) => [c.activity.id, c.recipients.length, c.ordering_key]), [[activity.id, 2, 'notes/1'], ['b', 1, undefined], [activity.id, 1, undefined]]);
  assert.equal(calls[2].key.key_id, ed25519.keyId);
});

test('refused inboxes are reported, and faults are errors', async (t) => {
  const rejected = [];
  const rejection = { inbox: 'https://one.example/users/bob/inbox', reason: 'host_blocked' };
  const { queue } = await start(
    t, { onRejected: (r, m) => rejected.push([r.reason, m.activity.id]) }, says(202, { ...accepted, rejected: [rejection] }),
    says(422, { type: '/problems/no-inbox-accepted', errors: [rejection] }), says(422, { detail: 'bto' }), says(503, {}),
  );
  await queue.enqueue(message('bob'));
  await queue.enqueue(message('bob'));
  assert.deepEqual(rejected, [['host_blocked', activity.id], ['host_blocked', activity.id]]);
  await assert.rejects(queue.enqueue(message('bob')), /bto/);
  await assert.rejects(queue.enqueue(message('bob')), (e) => e.status === 503);
  await assert.rejects(queue.enqueue(message('bob', { type: 'inbox' })), TypeError);
});

test('what the feed says is reported once, from where an earlier process stopped', async (t) => {
  const letter = (cursor, reason, status) => ({
    cursor, type: 'dead', at: '2026-11-29T02:11:51Z', activity_id: activity.id, inbox: 'https://one.example/users/bob/inbox', host: 'one.example',
    reason, ids: ['https://one.example/users/bob'], attempts: 1, last_attempt: { status, outcome: 'x', error: 'the error', duration_ms: 1 }, url: '/v1/activities/x',
  });
  const failures = [], dead = [];
  let fail = true;
  const { queue, asked, kv } = await start(
    t, {
      onDead: (e) => { dead.push(e.cursor); },
      onPermanentFailure: (failure) => {
        if (fail) { fail = false; stop.abort(); throw new Error('the database is away'); }
        failures.push(failure);
      },
    },
    says(200, { items: [], next_cursor: '5' }),
    says(200, { items: [letter('6', 'gone', 404)], next_cursor: '6' }), says(200, { '@context': 'https://www.w3.org/ns/activitystreams', ...activity }),
    says(200, { items: [letter('6', 'gone', 404), letter('7', 'rejected', 403), letter('8', 'host_unavailable')], next_cursor: '8' }),
    says(200, { '@context': 'https://www.w3.org/ns/activitystreams', ...activity }), says(404, {}),
  );
  let stop = new AbortController();
  t.mock.method(console, 'error', () => {});
  await queue.listen(() => {}, { signal: stop.signal });
  assert.equal(console.error.mock.callCount(), 1);
  assert.equal(await kv.get(['_postrider', 'feed']), '5', 'what was not handled comes again');
  stop = new AbortController();
  const listening = queue.listen(() => {}, { signal: stop.signal });
  await until(() => failures.length === 2);
  stop.abort();
  await listening;
  assert.equal(await kv.get(['_postrider', 'feed']), '8');
  assert.deepEqual(dead, ['6', '6', '7', '8']);
  const [gone, unavailable] = failures;
  assert.deepEqual(
    failures.map((f) => [f.reason, f.statusCode, f.inbox.href, ...f.actorIds.map((id) => id.href), f.activity.id.href, f.error.message]),
    [
      ['http', 404, 'https://one.example/users/bob/inbox', 'https://one.example/users/bob', activity.id, 'gone: the error'],
      ['circuit-breaker-ttl', 0, 'https://one.example/users/bob/inbox', 'https://one.example/users/bob', activity.id, 'host_unavailable: the error'],
    ],
  );
  assert.equal(gone.activity.constructor.name, 'Create');
  assert.equal(unavailable.activity.constructor.name, 'Activity', 'its body is no longer kept');
  assert.deepEqual(asked.slice(0, 4).map((a) => a.path), ['/v1/feed?after=now&limit=1', '/v1/feed?limit=500&after=5&type=dead', '/v1/activities/x/body', '/v1/feed?limit=500&after=5&type=dead']);
});

test('without handlers the feed is not read', async (t) => {
  const { queue, asked } = await start(t, {});
  const stop = new AbortController();
  const listening = queue.listen(() => {}, { signal: stop.signal });
  stop.abort();
  await listening;
  assert.deepEqual(asked, []);
});

test('the depth is what is pending', async (t) => {
  const { queue } = await start(t, {}, says(200, { fleet: { pending: 7 } }));
  assert.deepEqual(await queue.getDepth(), { queued: 7 });
});
