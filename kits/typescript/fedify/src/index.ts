/**
 * Fedify delivers through Postrider: a `MessageQueue` for the role `outbox`.
 *
 * Fedify makes activities, serves keys and has the inbox, as before. Postrider signs, sends and repeats: all inboxes of an
 * activity are one call, which is durable when `sendActivity` resolves.
 */
import type { KvStore, MessageQueue, MessageQueueEnqueueOptions, MessageQueueListenOptions } from "@fedify/fedify";
import { type ActivityCall, type Entry, Postrider, PostriderError, type Rejection, sleep } from "@postrider/client";
import { type PermanentFailure, permanentFailure } from "./failure.ts";

export { type PermanentFailure } from "./failure.ts";

/** A message that Fedify 2 puts into a queue for one inbox, as far as it is used here. */
export interface OutboxMessage {
  readonly type: "outbox";
  readonly keys: readonly { readonly keyId: string; readonly privateKey: JsonWebKey }[];
  readonly activity: unknown;
  readonly activityId?: string;
  readonly activityType: string;
  readonly inbox: string;
  readonly sharedInbox: boolean;
  readonly actorIds?: readonly string[];
  readonly headers: Readonly<Record<string, string>>;
  readonly orderingKey?: string;
  readonly traceContext: Readonly<Record<string, string>>;
}

export interface PostriderQueueOptions {
  /** Keeps how far the feed was read, so that a restart of the app misses no failure. */
  kv: KvStore;
  /** By default a client of http://127.0.0.1:8080. */
  client?: Postrider;
  /**
   * Gets what Fedify's outbox permanent failure handler gets, but for the context: inboxes that are gone (reason `http`),
   * and those of hosts that failed for days (`circuit-breaker-ttl`). If it throws, it is called again later.
   */
  onPermanentFailure?: (failure: PermanentFailure) => void | Promise<void>;
  /** Gets every dead letter, as it stands in the feed. */
  onDead?: (entry: Entry) => void | Promise<void>;
  /** Gets each inbox that a call did not accept, such as one on a blocked host. */
  onRejected?: (rejection: Rejection, message: OutboxMessage) => void;
  /** Returns more of the call for an activity, such as its priority. */
  call?: (message: OutboxMessage) => Partial<ActivityCall>;
}

const cursorKey = ["_postrider", "feed"] as const;
const mostRecipients = 50_000; // in a call, of 64 MiB at most
const pauseAfterError = 5_000; // milliseconds

/** The messages of one activity that Fedify enqueues one by one, in one tick. */
interface Batch {
  messages: OutboxMessage[];
  handed: Promise<void>;
}

export class PostriderQueue implements MessageQueue {
  /** Postrider repeats, so Fedify must not. */
  readonly nativeRetrial = true;
  readonly #options: PostriderQueueOptions;
  readonly #client: Postrider;
  readonly #batches = new Map<unknown, Batch>();

  constructor(options: PostriderQueueOptions) {
    this.#options = options;
    this.#client = options.client ?? new Postrider();
  }

  /** Fedify calls it for each inbox, all in one tick, if there is an ordering key: they become one call. */
  enqueue(message: OutboxMessage, _options?: MessageQueueEnqueueOptions): Promise<void> {
    let batch = this.#batches.get(message.activity);
    if (!batch) {
      const messages: OutboxMessage[] = [];
      const handed = Promise.resolve().then(() => {
        this.#batches.delete(message.activity);
        return this.#deliver(messages);
      });
      this.#batches.set(message.activity, batch = { messages, handed });
    }
    batch.messages.push(message);
    return batch.handed;
  }

  async enqueueMany(messages: readonly OutboxMessage[], options?: MessageQueueEnqueueOptions): Promise<void> {
    await Promise.all(messages.map((message) => this.enqueue(message, options)));
  }

  /** Hands one activity over, for all of its inboxes. */
  async #deliver(messages: OutboxMessage[]): Promise<void> {
    for (let i = 0; i < messages.length; i += mostRecipients) {
      const part = messages.slice(i, i + mostRecipients);
      const { rejected, message } = await this.#post(part);
      for (const rejection of rejected) this.#options.onRejected?.(rejection, message);
    }
  }

  async #post(messages: OutboxMessage[]): Promise<{ rejected: readonly Rejection[]; message: OutboxMessage }> {
    const message = messages[0]!;
    const call = { ...callOf(messages), ...this.#options.call?.(message) };
    try {
      const { rejected } = await this.#client.deliver(call, { headers: { ...message.traceContext } });
      return { rejected, message };
    } catch (error) {
      if (!(error instanceof PostriderError && error.noInboxAccepted)) throw error;
      return { rejected: error.problem.errors as unknown as Rejection[], message }; // nobody is left: no fault of the app
    }
  }

  /** How many deliveries are pending, those of other apps on the same store included. */
  async getDepth(): Promise<{ queued: number }> {
    return { queued: (await this.#client.stats()).fleet.pending };
  }

  /** There is no message to work on here. It reads the feed for what became of deliveries, until the signal ends it. */
  async listen(_handler: unknown, { signal }: MessageQueueListenOptions = {}): Promise<void> {
    const { onDead, onPermanentFailure } = this.#options;
    if (!onDead && !onPermanentFailure) return await aborted(signal);
    while (!signal?.aborted) {
      try {
        await this.#read(signal);
      } catch (error) {
        console.error("Postrider's feed, or a handler of it, failed, and is read again:", String(error));
        // A cursor that the node refuses is of another store: that one's feed is read from its beginning.
        if (error instanceof PostriderError && error.status === 422) await this.#options.kv.set(cursorKey, "");
        await sleep(pauseAfterError, signal);
      }
    }
  }

  async #read(signal?: AbortSignal): Promise<void> {
    const { kv } = this.#options;
    let after = await kv.get<string>(cursorKey);
    if (after === undefined) {
      after = (await this.#client.call<{ next_cursor: string }>("GET", "/v1/feed?after=now&limit=1")).next_cursor;
      await kv.set(cursorKey, after);
    }
    for await (const entry of this.#client.feed({ after, types: ["dead"], signal })) {
      await this.#report(entry);
      await kv.set(cursorKey, entry.cursor);
    }
  }

  async #report(entry: Entry): Promise<void> {
    await this.#options.onDead?.(entry);
    const { onPermanentFailure } = this.#options;
    const failure = onPermanentFailure && await permanentFailure(entry, this.#client);
    if (failure) await onPermanentFailure(failure);
  }
}

/** Resolves when the signal ends. */
async function aborted(signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return;
  await new Promise((resolve) => signal?.addEventListener("abort", resolve, { once: true }));
}

function callOf(messages: OutboxMessage[]): ActivityCall {
  const { type, activity, keys, orderingKey } = messages[0]!;
  if (type !== "outbox") throw new TypeError("PostriderQueue is for the role outbox: queue: { inbox, outbox }");
  const pair = keys.find((k) => k.privateKey.kty === "RSA") ?? keys[0]!; // what every receiver can verify
  return {
    activity: activity as Record<string, unknown>,
    key: { key_id: pair.keyId, private_key_jwk: { ...pair.privateKey } },
    recipients: messages.map((m) => ({ inbox: m.inbox, ids: [...m.actorIds ?? []], headers: { ...m.headers } })),
    ordering_key: orderingKey?.split("\n")[0], // Fedify appends the inbox's origin; order is kept for each inbox anyway
  };
}
