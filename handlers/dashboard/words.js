// The meaning of the words of the API, and what an operator can do. docs/STATES.md has the same in full.

export const states = {
  healthy: 'It takes deliveries, or none has failed yet.',
  throttled: 'It asked to wait. Deliveries to it go on when that time is over; no attempt is spent.',
  refusing: 'It answers, but it refused at least the last ten requests in a row. The last error says how. With 401 or 403, check that it can fetch your public key and does not block your server.',
  failing: 'The last attempt got no answer or a server error. Deliveries are retried on the schedule.',
  open: 'Too many attempts in a row failed, so its circuit breaker is open: it gets one probe at a time until one is answered. Meanwhile its deliveries wait and spend no attempts.',
  unavailable: 'It failed on so many days that new deliveries to it are refused. It gets one probe a day. Pending deliveries became dead letters.',
  paused: 'An operator paused it. Deliveries to it are accepted and wait.',
  blocked: 'An operator blocked it. New deliveries to it are refused, and pending ones became dead letters.',
};

export const problems = {
  unavailable: 'failed for days: new deliveries are refused',
  open: 'do not answer: their circuit breakers are open',
  refusing: 'answer, but refuse everything',
};

export const reasons = {
  rejected: 'The inbox gave an answer that retrying cannot change.',
  gone: 'The inbox does not exist any more (404 or 410).',
  expired: 'It was not delivered within its time.',
  exhausted: 'It used all its attempts.',
  host_blocked: 'An operator blocked the host.',
  host_unavailable: 'The host failed for days and is unavailable.',
  key_missing: 'Its key was removed and did not come back in time.',
  private_address: 'The host is at a private or special address, which is never connected to.',
  lane_full: 'Too many deliveries were pending for the host.',
  damaged: 'What the store holds of it was damaged, so it could not be sent.',
};

export const outcomes = {
  delivered: 'The inbox took it.',
  gone: 'The inbox does not exist any more.',
  redirected: 'The answer was a redirect, which is not followed to another host.',
  rejected: 'The inbox refused it for good.',
  unauthorized: 'The inbox did not accept the signature: often it could not fetch the public key.',
  server_error: 'The host answered that it has a fault of its own.',
  throttled: 'The host asked to wait.',
  unreachable: 'There was no answer: the name, the connection, TLS or the time failed.',
  private_address: 'The host is at a private or special address.',
  key_missing: 'The key that signs it is missing. Put it again.',
  fault: 'A fault of this node or its name servers: nothing was sent, and no attempt was spent.',
  aborted: 'The node stopped the attempt, for example to shut down. No attempt was spent.',
};

// groups are the outcomes as a chart shows them.
export const groups = {
  delivered: ['delivered'],
  refused: ['rejected', 'unauthorized', 'gone', 'redirected'],
  failed: ['server_error', 'unreachable'],
  throttled: ['throttled'],
  other: ['private_address', 'key_missing', 'fault', 'aborted'],
};

// waiting says why a delivery waits, given its host.
export function waiting(delivery, host) {
  const last = delivery.last_attempt;
  switch (delivery.waits_for) {
    case 'answer': return 'A node is attempting it, or is about to.';
    case 'predecessor': return 'It waits behind an earlier delivery to the same inbox that has the same ordering key.';
    case 'key': return outcomes.key_missing;
    case 'host': return waitingForHost[host.state] ?? 'It waits with all others for the host.';
    case 'retry': return `Its last attempt failed, and it is retried on the schedule. ${outcomes[last?.outcome] ?? ''}`;
    default: return last ? 'It is due again.' : 'It is due, and no attempt has been made yet.';
  }
}

const waitingForHost = {
  paused: 'It waits because an operator paused the host.',
  throttled: 'It waits because the host asked to wait.',
  open: `It waits because the host is open. ${states.open}`,
  unavailable: `It waits because the host is unavailable. ${states.unavailable}`,
};

// waitsFor says in a few words what a delivery waits for, given its host.
export function waitsFor(delivery, host) {
  if (delivery.waits_for === 'host') return { paused: 'the end of the pause', open: 'the circuit breaker', unavailable: 'the daily probe' }[host.state] ?? 'the host, which asked to wait';
  return { answer: 'an answer: it is in flight', predecessor: 'an earlier one to its inbox', key: 'its signing key', retry: 'its next attempt' }[delivery.waits_for] ?? 'its turn';
}
