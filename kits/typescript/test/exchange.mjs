// Two Fedify apps exchange activities through the node of POSTRIDER_URL. For each thing that the Go test has to do to the
// node, a line of standard output names it, and a line of standard input says that it is done.
import assert from 'node:assert/strict';
import { createInterface } from 'node:readline';

import { MemoryKvStore } from '@fedify/fedify';
import { Postrider } from '@postrider/client';
import { PostriderQueue } from '@postrider/fedify';

import { App, until, vocab } from './app.mjs';

const { Announce, Create, Delete, Update } = vocab;
const client = new Postrider({ url: process.env.POSTRIDER_URL });
const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const ask = async (what) => { console.log(what); await input.next(); };

const failures = [];
const rejected = [];
const alice = new App('alice', '127.0.0.2', new MemoryKvStore(), (app) => new PostriderQueue({
  client, kv: app.kv, onRejected: (r) => rejected.push(r.reason),
  onPermanentFailure: (failure) => { failures.push(failure); },
}));
const bob = new App('bob', '127.0.0.3', new MemoryKvStore(), (app) => new PostriderQueue({ client, kv: app.kv }));
await alice.start();
await bob.start();
const arrives = (line) => until(() => bob.log.includes(line));

await ask('follow');
await bob.follow(alice.actor);
await until(() => alice.followers.size === 1 && bob.log.some((line) => line.startsWith('Accept')));

await ask('post');
const note = alice.note('hello');
await arrives(await alice.post(Create, note, { syncCollection: true }));
const created = bob.headers.at(-1);
assert.match(created['collection-synchronization'], /^collectionId="http.*users\/alice\/followers", url="http.*", digest="[0-9a-f]{64}"$/);
assert.match(created.signature, /collection-synchronization/, 'it is signed');
const lines = [];
for (const Type of [Update, Announce, Delete, Create, Delete]) {
  lines.push(await alice.post(Type, Type === Announce ? note.id : note, { orderingKey: 'o' }));
}
await arrives(lines.at(-1));
assert.deepEqual(bob.log.filter((line) => lines.includes(line)), lines, 'in the order accepted');

await ask('down');
await bob.stop();
const late = await alice.post(Create, alice.note('while bob is down'));
await until(async () => (await client.host(bob.origin.host)).last_error?.outcome === 'unreachable');
await bob.start(bob.origin.port);
await arrives(late);

await ask('kill');
const posts = [];
for (let i = 0; i < 20; i++) {
  if (i === 5) console.log('now');
  posts.push(await alice.post(Create, alice.note(`post ${i}`)));
}
await Promise.all(posts.map(arrives));

await ask('block');
await client.pauseHost(bob.origin.host, { reason: 'he moves', until: new Date(Date.now() + 3600e3).toISOString() });
await client.blockHost(bob.origin.host, { reason: 'spam' });
assert.deepEqual((await client.host(bob.origin.host)).orders.map((o) => `${o.action} ${o.reason}`), ['pause he moves', 'block spam']);
await alice.post(Create, alice.note('to nobody'));
assert.deepEqual(rejected, ['host_blocked']);
await client.unblockHost(bob.origin.host);
await client.resumeHost(bob.origin.host);
for await (const e of client.feed({ types: ['action'], hosts: [bob.origin.host] })) {
  assert.ok(e.action !== 'host.block' || e.order.reason === 'spam');
  if (e.action === 'host.resume') break;
}

await ask('gone');
const gone = { id: new URL('/users/eve', bob.origin), inboxId: new URL('/users/eve/inbox', bob.origin), endpoints: null };
alice.followers.set(gone.id.href, gone);
const lost = await alice.post(Create, alice.note('to one who is gone'));
await arrives(lost);
await until(() => failures.length > 0);
const [failure] = failures;
assert.deepEqual([failure.reason, failure.statusCode, failure.inbox.href], ['http', 404, gone.inboxId.href]);
assert.deepEqual([failures.length, failure.actorIds.map((id) => id.href)], [1, [gone.id.href]]);
assert.equal(`Create ${failure.activity.id.href}`, lost);
assert.ok(failure.activity instanceof Create, 'with its body');

assert.deepEqual(bob.headers.filter((h) => h.status !== 202).map((h) => h.url), ['/users/eve/inbox'], 'every signature is right');
console.log('done');
process.exit();
