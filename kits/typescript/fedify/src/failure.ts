import { type OutboxPermanentFailureHandler, SendActivityError } from "@fedify/fedify";
import { Activity } from "@fedify/fedify/vocab";
import type { Entry, Postrider } from "@postrider/client";

/** The values that Fedify hands to its outbox permanent failure handler, besides the context. */
export type PermanentFailure = Parameters<OutboxPermanentFailureHandler<unknown>>[1];

/** Fedify's words for the reasons of dead letters. */
const reasons: Record<string, PermanentFailure["reason"]> = { gone: "http", host_unavailable: "circuit-breaker-ttl" };

/** Returns the failure that a dead letter is for Fedify, or undefined if Fedify would not report it. */
export async function permanentFailure(entry: Entry, client: Postrider): Promise<PermanentFailure | undefined> {
  const reason = reasons[entry.reason ?? ""];
  if (!reason) return undefined;
  const inbox = new URL(entry.inbox!);
  const statusCode = reason === "http" ? entry.last_attempt?.status ?? 410 : 0;
  const said = entry.last_attempt?.error ?? "";
  return {
    reason, inbox, statusCode,
    activity: await activityOf(entry, client),
    actorIds: (entry.ids ?? []).map((id) => new URL(id)),
    error: new SendActivityError(inbox, statusCode, `${entry.reason}: ${said}`, said),
  };
}

/** Returns the activity, or one that only has its id if the node no longer keeps the body. */
async function activityOf(entry: Entry, client: Postrider): Promise<Activity> {
  try {
    return await Activity.fromJsonLd(await client.call("GET", `${entry.url}/body`));
  } catch {
    return new Activity({ id: new URL(entry.activity_id!) });
  }
}
