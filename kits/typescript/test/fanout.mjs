// Posts two activities to inboxes, by Postrider at POSTRIDER_URL or, without that, by a queue of Fedify's own. Each line of
// standard input is a list of inboxes in JSON. The answer is printed when sendActivity has returned, and again after an empty
// line: how many calls the node got, and the milliseconds of CPU that were spent.
import { createInterface } from 'node:readline';

import { InProcessMessageQueue, MemoryKvStore, ParallelMessageQueue } from '@fedify/fedify';
import { Postrider } from '@postrider/client';
import { PostriderQueue } from '@postrider/fedify';

import { App, vocab } from './app.mjs';

const url = process.env.POSTRIDER_URL;
let calls = 0;
const counted = (target, init) => {
  if (init.method === 'POST') calls++;
  return fetch(target, init);
};
const queue = (app) => url
  ? new PostriderQueue({ client: new Postrider({ url, fetch: counted }), kv: app.kv })
  : new ParallelMessageQueue(app.inbox, 10);
const app = new App('alice', '127.0.0.2', new MemoryKvStore(), queue);
await app.start();
let before;
for await (const line of createInterface({ input: process.stdin })) {
  if (line) {
    const inboxes = JSON.parse(line).map((inbox) => [inbox, { id: new URL('#actor', inbox), inboxId: new URL(inbox), endpoints: null }]);
    app.followers = new Map(inboxes);
    calls = 0;
    before = process.cpuUsage();
    await app.post(vocab.Create, app.note('to all'));
  }
  const { user, system } = process.cpuUsage(before);
  console.log(JSON.stringify({ calls, cpu: Math.round((user + system) / 1000) }));
}
process.exit();
