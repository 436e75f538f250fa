// A small Fedify app: actors, followers, notes and an inbox. It delivers through the queue that it is given.
import './node20.mjs';

import { createServer } from 'node:http';

import { createFederation, generateCryptoKeyPair, InProcessMessageQueue } from '@fedify/fedify';
import * as vocab from '@fedify/fedify/vocab';

const { Accept, Announce, Create, Delete, Endpoints, Follow, Note, Person, PUBLIC_COLLECTION, Update } = vocab;

const rsa2048 = { name: 'RSASSA-PKCS1-v1_5', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' };

/** Waits until a condition holds; if it never does, the Go test ends this process. */
export async function until(condition) {
  while (!await condition()) await new Promise((resolve) => setTimeout(resolve, 10));
}

export class App {
  log = []; // what came in: type and id
  headers = []; // of the requests that came in
  followers = new Map();
  inbox = new InProcessMessageQueue({ pollInterval: { milliseconds: 50 } });
  #keys;
  #notes = 0;

  constructor(name, host, kv, outbox) {
    Object.assign(this, { name, host, kv, outbox });
  }

  async start(port = 0) {
    this.server = createServer((request, response) => this.#serve(request, response));
    await new Promise((resolve) => this.server.listen(port, this.host, resolve));
    this.origin = new URL(`http://${this.host}:${this.server.address().port}/`);
    this.federation ??= this.#federate();
    this.context = this.federation.createContext(this.origin, undefined);
    this.actor = this.context.getActorUri(this.name);
  }

  async stop() {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  #federate() {
    const federation = createFederation({ kv: this.kv, allowPrivateAddress: true, queue: { inbox: this.inbox, outbox: this.outbox(this) } });
    federation.setActorDispatcher('/users/{identifier}', async (ctx, identifier) => {
      if (identifier !== this.name) return null;
      const pairs = await ctx.getActorKeyPairs(identifier);
      return new Person({
        id: ctx.getActorUri(identifier), preferredUsername: identifier, inbox: ctx.getInboxUri(identifier),
        endpoints: new Endpoints({ sharedInbox: ctx.getInboxUri() }), followers: ctx.getFollowersUri(identifier),
        publicKey: pairs[0].cryptographicKey, assertionMethods: pairs.map((pair) => pair.multikey),
      });
    }).setKeyPairsDispatcher(async () =>
      this.#keys ??= [await crypto.subtle.generateKey(rsa2048, true, ['sign', 'verify']), await generateCryptoKeyPair('Ed25519')]);
    federation.setFollowersDispatcher('/users/{identifier}/followers', () => ({ items: [...this.followers.values()] }));
    const listeners = federation.setInboxListeners('/users/{identifier}/inbox', '/inbox');
    listeners.on(Follow, (ctx, follow) => this.#followed(ctx, follow));
    for (const type of [Accept, Create, Update, Delete, Announce]) {
      listeners.on(type, (_, activity) => { this.log.push(`${type.name} ${activity.id.href}`); });
    }
    return federation;
  }

  async #followed(ctx, follow) {
    const actor = await follow.getActor(ctx);
    this.log.push(`Follow ${follow.id.href}`);
    this.followers.set(actor.id.href, { id: actor.id, inboxId: actor.inboxId, endpoints: actor.endpoints });
    await this.send(actor, new Accept({ id: this.#id('accept'), actor: this.actor, object: follow }));
  }

  async #serve(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const { method, headers } = request;
    const answer = await this.federation.fetch(
      new Request(`http://${headers.host}${request.url}`, { method, headers, body: method === 'POST' ? Buffer.concat(chunks) : undefined }),
      { contextData: undefined },
    );
    if (method === 'POST') this.headers.push({ url: request.url, status: answer.status, ...headers });
    response.writeHead(answer.status, Object.fromEntries(answer.headers));
    response.end(Buffer.from(await answer.arrayBuffer()));
  }

  #id(kind) {
    return new URL(`#${kind}/${crypto.randomUUID()}`, this.actor);
  }

  send(recipients, activity, options) {
    return this.context.sendActivity({ identifier: this.name }, recipients, activity, options);
  }

  async follow(uri) {
    const actor = await this.context.lookupObject(uri);
    await this.send(actor, new Follow({ id: this.#id('follow'), actor: this.actor, object: actor.id }));
  }

  /** Sends an activity of a type about an object to all followers, and returns its line in their logs. */
  async post(Type, object, options = {}) {
    const activity = new Type({ id: this.#id(Type.name.toLowerCase()), actor: this.actor, to: PUBLIC_COLLECTION, object });
    await this.send('followers', activity, { preferSharedInbox: true, ...options });
    return `${Type.name} ${activity.id.href}`;
  }

  note(content, id = new URL(`/notes/${++this.#notes}`, this.origin)) {
    return new Note({ id, attribution: this.actor, to: PUBLIC_COLLECTION, content, published: Temporal.Now.instant() });
  }
}

export { vocab };
