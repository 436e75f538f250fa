// An app made with Fedify, with one account: it follows another one, posts a note now and then, and prints what comes
// in. Postrider delivers for it. It forgets its key and its followers when it ends; a real app has a database.
//
//   ORIGIN               its own URL, by which others find it
//   ACCOUNT              the name of its account
//   FOLLOW               the account that it follows, as a URL; none by default
//   EVERY                seconds between two notes, 5 by default
//   POSTRIDER_URL        the node's API
//   POSTRIDER_API_TOKENS the node's setting: the app uses the first token
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { createFederation, generateCryptoKeyPair, InProcessMessageQueue, MemoryKvStore } from "@fedify/fedify";
import { Accept, Create, Follow, Note, Person, PUBLIC_COLLECTION } from "@fedify/fedify/vocab";
import { Postrider } from "@postrider/client";
import { PostriderQueue } from "@postrider/fedify";

const { ORIGIN, ACCOUNT, FOLLOW, EVERY = "5", POSTRIDER_URL: url, POSTRIDER_API_TOKENS: tokens = "" } = process.env;
const origin = new URL(ORIGIN);
const token = tokens.split(",")[0].split(":")[1];

const kv = new MemoryKvStore();
const outbox = new PostriderQueue({ client: new Postrider({ url, token }), kv });
const queue = { inbox: new InProcessMessageQueue(), outbox };
const federation = createFederation({ kv, queue, allowPrivateAddress: true }); // the other app is on this machine
const context = federation.createContext(origin, undefined);
const keys = [await generateCryptoKeyPair("RSASSA-PKCS1-v1_5")];
const followers = new Map();

federation.setActorDispatcher("/users/{identifier}", async (ctx, identifier) => {
  if (identifier !== ACCOUNT) return null;
  const [{ cryptographicKey: publicKey }] = await ctx.getActorKeyPairs(identifier);
  return new Person({ id: me, preferredUsername: ACCOUNT, inbox: ctx.getInboxUri(identifier), publicKey });
}).setKeyPairsDispatcher(() => keys);
const me = context.getActorUri(ACCOUNT);

federation.setFollowersDispatcher("/users/{identifier}/followers", () => ({ items: [...followers.values()] }));

federation.setInboxListeners("/users/{identifier}/inbox", "/inbox")
  .on(Follow, async (ctx, follow) => {
    const { id, inboxId } = await follow.getActor(ctx);
    followers.set(id.href, { id, inboxId, endpoints: null });
    console.log(`${id.href} follows ${ACCOUNT}`);
    await send([{ id, inboxId, endpoints: null }], new Accept({ id: newId("accepts"), actor: me, object: follow }));
  })
  .on(Accept, (_, accept) => console.log(`${accept.actorId.href} accepts ${ACCOUNT}`))
  .on(Create, async (_, create) => console.log(`${create.actorId.href} writes: ${(await create.getObject()).content}`));

function newId(kind) {
  return new URL(`/${kind}/${crypto.randomUUID()}`, origin);
}

function send(recipients, activity) {
  return context.sendActivity({ identifier: ACCOUNT }, recipients, activity);
}

async function follow(account) {
  const actor = await context.lookupObject(account);
  if (!actor) return false; // it has not started yet
  await send(actor, new Follow({ id: newId("follows"), actor: me, object: actor.id }));
  return true;
}

async function post(content) {
  const note = new Note({ id: newId("notes"), attribution: me, to: PUBLIC_COLLECTION, content });
  await send("followers", new Create({ id: newId("creates"), actor: me, to: PUBLIC_COLLECTION, object: note }));
}

async function serve(request, response) {
  const { method, headers } = request;
  const body = method === "POST" ? Buffer.concat(await request.toArray()) : undefined;
  const incoming = new Request(new URL(request.url, origin), { method, headers, body });
  const answer = await federation.fetch(incoming, { contextData: undefined });
  response.writeHead(answer.status, Object.fromEntries(answer.headers)).end(Buffer.from(await answer.arrayBuffer()));
}

createServer(serve).listen(origin.port, origin.hostname, () => console.log(`${me} is here`));
process.on("SIGTERM", () => process.exit());
while (FOLLOW && !await follow(FOLLOW)) await sleep(1000);
for (let n = 1; ; n++) {
  await sleep(EVERY * 1000);
  await post(`note ${n} of ${ACCOUNT}`);
}
