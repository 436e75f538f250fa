/**
 * A client of Postrider, which delivers ActivityPub activities. It needs `fetch` and nothing else: Node 20, Deno, Bun and
 * workers have it.
 *
 * A call is repeated, with growing pauses or after `Retry-After`, while it gets no answer, 429 or 5xx, until `patience`
 * or the signal ends. That is harmless: `deliver` and `batch` send an `Idempotency-Key`, and the others may be repeated
 * anyway.
 */
import type {
  Accepted, ActionFilter, ActivityCall, Attempt, Counts, DeadLetter, HostView, KeyCall, KeyView, LineAccepted, LineProblem, NodesView,
  OneDelivery, OrderCall, OrderView, Problem, StatsView,
} from "./api.ts";
import { pause, retryAfter, sleep } from "./retry.ts";

export type * from "./api.ts";
export { sleep } from "./retry.ts";
export { verifyWebhook, WebhookError } from "./webhook.ts";

/** An entry of the feed. Its other members depend on its type, which may be one that is not listed here. */
export interface Entry {
  type: "dead" | "host_state" | "activity_done" | "delivered" | "action" | (string & {});
  at: string;
  /** Give it as `after` to go on behind this entry. */
  cursor: string;
  /** Of the delivery, or of the activity that is done. */
  id?: string;
  /** The activity's own id. */
  activity_id?: string;
  /** Of the call. */
  metadata?: Record<string, unknown>;
  inbox?: string;
  /** Of the actors behind the inbox, as the call named them. */
  ids?: string[];
  host?: string;
  /** Of the host, or of the activity that is done. */
  state?: string;
  /** Why the delivery is dead. */
  reason?: DeadLetter["reason"];
  attempts?: number;
  last_attempt?: Attempt;
  /** Of the activity that is done. */
  counts?: Counts;
  /** The pause or block that changed the host's state, or that was given. */
  order?: OrderView;
  /** The name of the token that changed the host's state, or did the action. */
  by?: string;
  /** What was done, such as "host.block". */
  action?: string;
  /** Of the key that was changed. */
  key_id?: string;
  /** What an action on many was limited to. */
  filter?: ActionFilter;
  /** How many an action on many changed. */
  count?: number;
  url?: string;
}

export interface Options {
  /** Of the node, such as http://127.0.0.1:8080, which is the default. */
  url?: string;
  /** Of the node's `api-tokens`. */
  token?: string;
  /** How long a call may be repeated, in milliseconds; a minute by default. */
  patience?: number;
  /** Instead of the global fetch. */
  fetch?: typeof fetch;
}

export interface DeliverOptions {
  /** Makes it harmless to make the call again within 24 hours. By default each call has one, for its own repetitions. */
  idempotencyKey?: string;
  /** More headers of the call, such as `traceparent`. */
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

export interface FeedOptions {
  /** The `cursor` of the last entry that was handled; "" begins with the oldest entry, "now" with the next. */
  after?: string;
  /** All but "action" by default. */
  types?: string[];
  hosts?: string[];
  /** The pause at the end of the feed, in milliseconds; 2,000 by default. */
  poll?: number;
  /** Ends it without an error. */
  signal?: AbortSignal;
}

export type HostAction = "pause" | "resume" | "block" | "unblock" | "reset" | "probe" | "seen";

/** An answer of the node that is not a success. */
export class PostriderError extends Error {
  override name = "PostriderError";
  readonly status: number;
  /** Is empty if a proxy answered. */
  readonly problem: Partial<Problem>;
  /** How long the node asks to wait, in milliseconds; 0 if it does not say. */
  readonly retryAfter: number;

  constructor(status: number, problem: Partial<Problem>, retryAfter = 0) {
    const faults = (problem.errors ?? []).map((e) => `; ${e.location}: ${e.message}`);
    super(`${status}: ${problem.detail ?? "no reason given"}${faults.join("")}`);
    this.status = status;
    this.problem = problem;
    this.retryAfter = retryAfter;
  }

  /** Whether the same call may succeed later. */
  get temporary(): boolean {
    return this.status === 429 || this.status >= 500;
  }

  /** Whether the call was valid and each of its inboxes was rejected: nobody is left to deliver to. */
  get noInboxAccepted(): boolean {
    return this.problem.type === "/problems/no-inbox-accepted";
  }
}

interface Request extends DeliverOptions {
  method: string;
  path: string;
  body?: string;
  media?: string;
  patience?: number;
}

export class Postrider {
  readonly #url: string;
  readonly #headers: Record<string, string>;
  readonly #patience: number;
  readonly #fetch: typeof fetch;

  constructor(options: Options = {}) {
    this.#url = (options.url ?? "http://127.0.0.1:8080").replace(/\/$/, "");
    this.#headers = options.token ? { authorization: `Bearer ${options.token}` } : {};
    this.#patience = options.patience ?? 60_000;
    this.#fetch = options.fetch ?? ((...args) => fetch(...args));
  }

  /**
   * Hands an activity over. Once it resolves, the deliveries are durable. An activity that is a string is sent byte for
   * byte; an object is sent as `JSON.stringify` writes it.
   */
  async deliver(call: ActivityCall, options: DeliverOptions = {}): Promise<Accepted> {
    return await this.#json({ method: "POST", path: "/v1/activities", body: JSON.stringify(call), ...keyed(options) });
  }

  /** Hands up to 1,000 activities over, and returns an answer for each, in order. */
  async batch(calls: ActivityCall[], options: DeliverOptions = {}): Promise<(LineAccepted | LineProblem)[]> {
    const body = calls.map((call) => JSON.stringify(call) + "\n").join("");
    let lines: (LineAccepted | LineProblem)[] = [];
    await this.#send({
      method: "POST", path: "/v1/activities/batch", media: "application/x-ndjson", body, ...keyed(options),
    }, async (response) => {
      lines = (await response.text()).split("\n").filter(Boolean).map((line) => JSON.parse(line));
      if (lines.length !== calls.length) throw new Error(`the node answered ${lines.length} of ${calls.length} calls`);
      const late = lines.find((l) => new PostriderError(Number(l.status), {}).temporary);
      if (late) throw new PostriderError(Number(late.status), late, 1000 * Number(late.retry_after ?? 0));
    }).catch((error) => {
      if (!(error instanceof PostriderError) || lines.length !== calls.length) throw error;
    });
    return lines;
  }

  /** Stores or replaces a private key. */
  async putKey(key: KeyCall): Promise<KeyView> {
    return await this.call("PUT", "/v1/keys", key);
  }

  keys(): AsyncGenerator<KeyView> {
    return this.list("/v1/keys");
  }

  /** Removes a key; `whenIdle`: once nothing waits to be signed by it. */
  async deleteKey(keyId: string, { whenIdle = false } = {}): Promise<void> {
    await this.call("DELETE", `/v1/keys?key_id=${encodeURIComponent(keyId)}${whenIdle ? "&when=idle" : ""}`);
  }

  hosts(query: { state?: string; q?: string } = {}): AsyncGenerator<HostView> {
    return this.list("/v1/hosts", query);
  }

  async host(host: string): Promise<HostView> {
    return await this.call("GET", `/v1/hosts/${encodeURIComponent(host)}`);
  }

  /** What is pending for a host, in the order accepted. */
  hostDeliveries(host: string): AsyncGenerator<OneDelivery> {
    return this.list(`/v1/hosts/${encodeURIComponent(host)}/deliveries`);
  }

  /** Does something to a host, known or not. Call `seen` when your app receives something from it. */
  async actOnHost(host: string, action: HostAction): Promise<HostView> {
    return await this.call("POST", `/v1/hosts/${encodeURIComponent(host)}/${action}`);
  }

  /** Lists the nodes that share the store. */
  async nodes(): Promise<NodesView> {
    return await this.call("GET", "/v1/nodes");
  }

  /** Makes no attempts to a host; new deliveries are accepted and wait. Another pause replaces it. */
  async pauseHost(host: string, order: OrderCall = {}): Promise<HostView> {
    return await this.call("POST", `/v1/hosts/${encodeURIComponent(host)}/pause`, order);
  }

  /** Ends a pause. It is refused, 409, if only the pause of another host covers this one. */
  async resumeHost(host: string): Promise<HostView> {
    return await this.actOnHost(host, "resume");
  }

  /** Refuses new deliveries to a host, and makes dead letters of those that pend. Another block replaces it. */
  async blockHost(host: string, order: OrderCall = {}): Promise<HostView> {
    return await this.call("POST", `/v1/hosts/${encodeURIComponent(host)}/block`, order);
  }

  /** Ends a block; dead letters stay. It is refused, 409, if only the block of another host covers this one. */
  async unblockHost(host: string): Promise<HostView> {
    return await this.actOnHost(host, "unblock");
  }

  async stats(): Promise<StatsView> {
    return await this.call("GET", "/v1/stats");
  }

  /** Makes any other call of the API. It is repeated like all others. */
  async call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
    return await this.#json({ method, path, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  }

  /** Returns the items of all pages of a list of the API. */
  async *list<T>(path: string, query: Record<string, string | undefined> = {}): AsyncGenerator<T> {
    const parameters = new URLSearchParams({ limit: "500" });
    for (const [name, value] of Object.entries(query)) if (value !== undefined) parameters.set(name, value);
    for (let next: string | undefined; ;) {
      if (next) parameters.set("cursor", next);
      const page = await this.call<{ items: T[]; next_cursor?: string }>("GET", `${path}?${parameters}`);
      yield* page.items;
      if (!(next = page.next_cursor)) return;
    }
  }

  /**
   * Returns the entries of the feed, oldest first, and waits for new ones until the signal ends it. It survives restarts
   * of the node. The caller stores `cursor` once it has handled an entry, and gives it as `after` when it starts
   * again. An entry may come again, so handling it twice must do no harm.
   */
  async *feed(options: FeedOptions = {}): AsyncGenerator<Entry> {
    const { signal, poll = 2000 } = options;
    let after = options.after ?? "";
    while (!signal?.aborted) {
      const query = new URLSearchParams({ limit: "500" });
      if (after) query.set("after", after);
      for (const type of options.types ?? []) query.append("type", type);
      for (const host of options.hosts ?? []) query.append("host", host);
      let page: { items: Entry[]; next_cursor?: string };
      try {
        page = await this.#json({ method: "GET", path: `/v1/feed?${query}`, signal, patience: Infinity });
      } catch (error) {
        if (signal?.aborted) return;
        throw error;
      }
      yield* page.items;
      const atEnd = (page.next_cursor ?? after) === after;
      after = page.next_cursor ?? after;
      if (atEnd) await sleep(poll, signal);
    }
  }

  async #json<T>(request: Request): Promise<T> {
    return await this.#send(request, async (response) => {
      const text = await response.text();
      try {
        return (text === "" ? undefined : JSON.parse(text)) as T;
      } catch {
        const detail = "the answer is not one of a Postrider node: is the URL right?";
        throw new PostriderError(response.status, { detail });
      }
    });
  }

  /** Sends a request until `read` accepts its answer, or an answer comes that repeating cannot change. */
  async #send<T>(request: Request, read: (response: Response) => Promise<T>): Promise<T> {
    const until = Date.now() + (request.patience ?? this.#patience);
    for (let n = 0; ; n++) {
      try {
        return await this.#try(request, read);
      } catch (error) {
        const refused = error instanceof PostriderError ? error : undefined;
        const wait = Math.max(pause(n), refused?.retryAfter ?? 0);
        if (request.signal?.aborted || refused?.temporary === false || Date.now() + wait > until) throw error;
        await sleep(wait, request.signal);
      }
    }
  }

  async #try<T>(request: Request, read: (response: Response) => Promise<T>): Promise<T> {
    const { method, path, body, media = "application/json", signal } = request;
    const headers = { ...request.headers, ...this.#headers } as Record<string, string>;
    if (body !== undefined) headers["content-type"] = media;
    if (request.idempotencyKey) headers["idempotency-key"] = request.idempotencyKey;
    const timeout = AbortSignal.timeout(60_000); // longer than a node takes
    const response = await this.#fetch(this.#url + path, {
      method, headers, body, redirect: "manual", signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
    if (response.ok) return await read(response);
    const problem = response.headers.get("content-type") === "application/problem+json" ? await response.json() : {};
    throw new PostriderError(response.status, problem, retryAfter(response.headers.get("retry-after")));
  }
}

function keyed(options: DeliverOptions): DeliverOptions {
  return { ...options, idempotencyKey: options.idempotencyKey ?? crypto.randomUUID() };
}
