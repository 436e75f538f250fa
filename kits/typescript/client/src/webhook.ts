import type { Entry } from "./index.ts";

const tolerance = 5 * 60_000; // milliseconds between the clocks of the node and the app

/** A request that must not be trusted: answer it with 400 or 401, so that the node sends it again. */
export class WebhookError extends Error {
  override name = "WebhookError";
}

/**
 * Checks a request of the node's webhook by the rules of Standard Webhooks, and returns its entries. It throws a
 * WebhookError if the request must be refused. The secret is the node's `webhook-secret`. The body is the request's, byte
 * for byte, before any parser had it.
 */
export async function verifyWebhook(secret: string, headers: Headers, body: string | Uint8Array): Promise<Entry[]> {
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
  await verify(secret, headers, bytes);
  return JSON.parse(new TextDecoder().decode(bytes)).items ?? [];
}

async function verify(secret: string, headers: Headers, body: Uint8Array): Promise<void> {
  const id = headers.get("webhook-id") ?? "";
  const stamp = headers.get("webhook-timestamp") ?? "";
  const off = Math.abs(Date.now() - Number(stamp || NaN) * 1000);
  if (!(off <= tolerance)) throw new WebhookError("the webhook's time is missing, or more than five minutes off");
  const key = await crypto.subtle.importKey(
    "raw", fromBase64(secret.replace(/^whsec_/, "")), { name: "HMAC", hash: "SHA-256" }, false, ["verify"],
  );
  const signed = concat(new TextEncoder().encode(`${id}.${stamp}.`), body);
  for (const signature of (headers.get("webhook-signature") ?? "").split(" ")) { // several while the secret is rotated
    if (!/^v1,[A-Za-z0-9+/]{43}=$/.test(signature)) continue;
    if (await crypto.subtle.verify("HMAC", key, fromBase64(signature.slice(3)), signed)) return;
  }
  throw new WebhookError("the webhook's signature is not valid");
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
