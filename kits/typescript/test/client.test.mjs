import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';

import { Postrider, PostriderError, verifyWebhook, WebhookError } from '@postrider/client';
import { breaksOff, dies, says, standIn } from './standin.mjs';

const call = { activity: '{ "id" : "https://app.example/a/1" }', key_id: 'k', inboxes: ['https://one.example/inbox'] };
const accepted = { id: 'x', activity_id: 'https://app.example/a/1', accepted: 1, duplicates: 0, rejected: [], url: '/v1/activities/x' };
const collect = async (list) => { const all = []; for await (const item of list) all.push(item); return all; };

test('deliver repeats a call, with one key, until it is answered', async (t) => {
  const node = await standIn(t, says(503, { detail: 'away' }, { 'retry-after': '1' }), dies, breaksOff, says(502, '<html>', { 'content-type': 'text/html' }), says(202, accepted));
  const client = new Postrider({ url: node.url + '/', token: 'secret' });
  assert.deepEqual(await client.deliver(call, { headers: { traceparent: '00-1-2-01' } }), accepted);
  assert.equal(node.asked.length, 5);
  for (const { method, path, headers, body } of node.asked) {
    assert.equal(`${method} ${path}`, 'POST /v1/activities');
    assert.deepEqual(JSON.parse(body), call);
    assert.equal(headers.authorization, 'Bearer secret');
    assert.equal(headers['content-type'], 'application/json');
    assert.equal(headers.traceparent, '00-1-2-01');
    assert.match(headers['idempotency-key'], /^\S{20,}$/);
    assert.equal(headers['idempotency-key'], node.asked[0].headers['idempotency-key']);
  }
  assert.ok(node.asked[1].at - node.asked[0].at >= 1000 - 5, 'it obeys Retry-After'); // both clocks round
});

test('each call has a key of its own', async (t) => {
  const node = await standIn(t, says(202, accepted), says(202, accepted), says(202, accepted));
  const client = new Postrider({ url: node.url });
  await client.deliver(call);
  await client.deliver(call);
  await client.deliver(call, { idempotencyKey: 'mine' });
  const keys = node.asked.map((a) => a.headers['idempotency-key']);
  assert.notEqual(keys[0], keys[1]);
  assert.equal(keys[2], 'mine');
});

test('what repeating cannot change is an error at once', async (t) => {
  const problem = { type: '/problems/no-inbox-accepted', status: 422, detail: 'no inbox was accepted', errors: [{ location: 'body.inboxes[0]', message: 'it is blocked', code: 'host_blocked' }] };
  const node = await standIn(t, says(422, problem), says(307, '', { location: 'http://127.0.0.1:1/' }), says(200, '<html>'), says(503, {}));
  const client = new Postrider({ url: node.url, patience: 0 });
  await assert.rejects(client.deliver(call), (e) => e instanceof PostriderError && e.noInboxAccepted && e.message === '422: no inbox was accepted; body.inboxes[0]: it is blocked');
  await assert.rejects(client.deliver(call), (e) => e.status === 307 && !e.temporary);
  await assert.rejects(client.deliver(call), /not one of a Postrider node/);
  await assert.rejects(client.deliver(call), (e) => e.status === 503 && e.temporary && !e.noInboxAccepted);
  assert.equal(node.asked.length, 4);
});

test('a signal ends a call that waits', async (t) => {
  const signal = new AbortController();
  const node = await standIn(t, (response) => { says(503, {}, { 'retry-after': '30' })(response); signal.abort(); });
  await assert.rejects(new Postrider({ url: node.url }).deliver(call, { signal: signal.signal }));
  assert.equal(node.asked.length, 1);
});

test('batch repeats all while a line may be accepted later', async (t) => {
  const good = JSON.stringify({ status: 202, ...accepted });
  const bad = JSON.stringify({ status: 422, detail: 'no', errors: [] });
  const full = JSON.stringify({ status: 503, detail: 'away', retry_after: 0 });
  const node = await standIn(t, says(200, `${good}\n`), says(200, `${good}\n${bad}\n${full}\n`), says(200, `${good}\n${bad}\n${good}\n`), says(200, `${full}\n`), says(200, `${good}\n`));
  const client = new Postrider({ url: node.url });
  assert.deepEqual((await client.batch([call, {}, call])).map((l) => l.status), [202, 422, 202]);
  assert.equal(new Set(node.asked.map((a) => a.headers['idempotency-key'])).size, 1);
  assert.equal(node.asked[2].body, `${JSON.stringify(call)}\n{}\n${JSON.stringify(call)}\n`);
  const hasty = new Postrider({ url: node.url, patience: 0 });
  assert.deepEqual((await hasty.batch([call])).map((l) => l.status), [503]);
  await assert.rejects(hasty.batch([call, call]), /answered 1 of 2 calls/);
});

test('keys and hosts', async (t) => {
  const node = await standIn(
    t, says(201, { key_id: 'a#1' }), says(200, { items: [{ key_id: 'a#1' }], next_cursor: 'c+&' }), says(200, { items: [{ key_id: 'b' }] }),
    says(204), says(202), says(200, { items: [] }), says(200, { host: 'one.example', state: 'open' }), says(200, { host: '[::1]:80', state: 'paused' }),
    says(200, { state: 'paused' }), says(200, { state: 'healthy' }), says(200, { state: 'blocked' }), says(409, { detail: 'unblock example instead' }),
  );
  const client = new Postrider({ url: node.url });
  await client.putKey({ key_id: 'a#1', private_key_pem: 'pem' });
  assert.deepEqual((await collect(client.keys())).map((k) => k.key_id), ['a#1', 'b']);
  await client.deleteKey('a#1');
  await client.deleteKey('b', { whenIdle: true });
  assert.deepEqual(await collect(client.hosts({ state: 'open' })), []);
  assert.equal((await client.host('one.example')).state, 'open');
  assert.equal((await client.actOnHost('[::1]:80', 'pause')).state, 'paused');
  assert.equal((await client.pauseHost('a.example', { reason: 'they move', until: '2030-01-02T03:04:05Z' })).state, 'paused');
  assert.equal((await client.resumeHost('a.example')).state, 'healthy');
  assert.equal((await client.blockHost('a.example', { subdomains: true })).state, 'blocked');
  await assert.rejects(client.unblockHost('x.a.example'), (error) => error.status === 409);
  assert.deepEqual(node.asked.map((a) => `${a.method} ${a.path} ${a.body}`.trim()), [
    'PUT /v1/keys {"key_id":"a#1","private_key_pem":"pem"}', 'GET /v1/keys?limit=500', 'GET /v1/keys?limit=500&cursor=c%2B%26',
    'DELETE /v1/keys?key_id=a%231', 'DELETE /v1/keys?key_id=b&when=idle', 'GET /v1/hosts?limit=500&state=open', 'GET /v1/hosts/one.example',
    'POST /v1/hosts/%5B%3A%3A1%5D%3A80/pause', 'POST /v1/hosts/a.example/pause {"reason":"they move","until":"2030-01-02T03:04:05Z"}',
    'POST /v1/hosts/a.example/resume', 'POST /v1/hosts/a.example/block {"subdomains":true}', 'POST /v1/hosts/x.a.example/unblock',
  ]);
});

test('the feed survives the node and ends with its signal', async (t) => {
  const entry = (cursor, type) => ({ cursor, type, at: '2026-11-29T02:11:51.222Z', host: 'one.example' });
  const node = await standIn(
    t, says(200, { items: [entry('7', 'dead'), entry('8', 'host_state')], next_cursor: '8' }), dies, says(503, {}),
    says(200, { items: [], next_cursor: '9' }), says(200, { items: [entry('10', 'dead')], next_cursor: '10' }), says(200, { items: [], next_cursor: '10' }),
  );
  const signal = new AbortController();
  const got = [];
  const client = new Postrider({ url: node.url, patience: 0 });
  for await (const e of client.feed({ after: '6', types: ['dead', 'host_state'], hosts: ['one.example'], poll: 1, signal: signal.signal })) {
    got.push(`${e.cursor} ${e.type} ${e.host}`);
    if (e.cursor === '10') signal.abort();
  }
  assert.deepEqual(got, ['7 dead one.example', '8 host_state one.example', '10 dead one.example']);
  const after = (id) => `/v1/feed?limit=500&after=${id}&type=dead&type=host_state&host=one.example`;
  assert.deepEqual(node.asked.map((a) => a.path), [after(6), after(8), after(8), after(8), after(9)]);
  const refused = await standIn(t, says(422, { detail: 'no' }));
  await assert.rejects(collect(new Postrider({ url: refused.url }).feed()), (e) => e.status === 422);
});

// The example that Standard Webhooks publishes.
const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const body = '{"test": 2432232314}';
const published = { 'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek', 'webhook-timestamp': '1614265330', 'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=' };
const other = `v1,${'A'.repeat(43)}=`;

const webhooks = {
  'as published': { ok: true },
  'without prefix': { secret: secret.slice(6), ok: true },
  'as bytes': { body: new TextEncoder().encode(body), ok: true },
  'a rotated secret': { 'webhook-signature': `${other} v1a,AAAA ${published['webhook-signature']}`, ok: true },
  'five minutes late': { late: 300, ok: true },
  'five minutes soon': { late: -300, ok: true },
  'too late': { late: 301 },
  'too soon': { late: -301 },
  'another secret': { secret: 'whsec_AAAA9r8GKYqrTwjUPD8ILPZIo2LaLaSw' },
  'another body': { body: body + ' ' },
  'another id': { 'webhook-id': 'msg_2' },
  'no id': { 'webhook-id': '' },
  'another time': { 'webhook-timestamp': '1614265331' },
  'no time': { 'webhook-timestamp': '' },
  'a strange time': { 'webhook-timestamp': 'yesterday' },
  'another signature': { 'webhook-signature': other },
  'another version': { 'webhook-signature': 'v2' + published['webhook-signature'].slice(2) },
  'an empty one': { 'webhook-signature': 'v1,' },
};
for (const [name, { late = 0, ok = false, ...changes }] of Object.entries(webhooks)) {
  test(`webhook: ${name}`, async (t) => {
    t.mock.timers.enable({ apis: ['Date'], now: (1614265330 + late) * 1000 });
    const { secret: s = secret, body: b = body, ...headers } = { ...published, ...changes };
    const verified = verifyWebhook(s, new Headers(headers), b);
    await (ok ? verified : assert.rejects(verified, WebhookError));
  });
}

test('webhook: its entries', async () => {
  const text = JSON.stringify({ items: [{ type: 'dead', cursor: '6', reason: 'gone', host: 'bücher.example' }], next_cursor: '6' });
  const stamp = Math.floor(Date.now() / 1000);
  const mac = createHmac('sha256', Buffer.from(secret.slice(6), 'base64')).update(`msg_1.${stamp}.${text}`).digest('base64');
  const headers = new Headers({ 'webhook-id': 'msg_1', 'webhook-timestamp': `${stamp}`, 'webhook-signature': `v1,${mac}` });
  assert.deepEqual(await verifyWebhook(secret, headers, new TextEncoder().encode(text)), JSON.parse(text).items);
});
