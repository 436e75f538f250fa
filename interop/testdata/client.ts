// A program of a user: it makes the call of the README through a client generated from the OpenAPI document, and has to
// compile. Where an error is expected, what a user gets wrong must not compile.

import createClient from 'openapi-fetch';
import type { components, paths } from './api.js';
import { readmeCall } from './readme.js';

const client = createClient<paths>({ baseUrl: 'http://127.0.0.1:8080' });

export async function post(): Promise<string> {
  const { data, error } = await client.POST('/v1/activities', { body: readmeCall });
  if (error) {
    for (const fault of error.errors ?? []) {
      if (fault.code === 'host_unavailable') console.log(fault.inbox);
      // @ts-expect-error: there is no such code
      if (fault.code === 'host_unavailabel') console.log(fault.inbox);
    }
    throw new Error(error.detail);
  }
  for (const { inbox, reason } of data.rejected) {
    if (reason === 'private_address') console.log(inbox);
  }
  const accepted: number = data.accepted;
  console.log(accepted);
  return data.id;
}

export async function follow(id: string) {
  const { data } = await client.GET('/v1/activities/{id}/deliveries', { params: { path: { id }, query: { state: 'dead' } } });
  for (const delivery of data?.items ?? []) {
    if (delivery.reason === 'gone' && delivery.last_attempt?.outcome === 'gone') console.log(delivery.inbox);
  }
  await client.GET('/v1/dead-letters', { params: { query: { reason: 'gone', limit: 500 } } });
  await client.POST('/v1/hosts/{host}/pause', { params: { path: { host: 'one.example' } } });
  // @ts-expect-error: there is no such parameter
  await client.GET('/v1/dead-letters', { params: { query: { hots: 'one.example' } } });
}

export async function batch(calls: components['schemas']['ActivityCall'][]) {
  const body = calls.map((call) => JSON.stringify(call)).join('\n');
  return client.POST('/v1/activities/batch', { body, bodySerializer: (text) => text, headers: { 'Content-Type': 'application/x-ndjson' }, parseAs: 'text' });
}

export const all: components['schemas']['ActivityCall'][] = [
  { activity: '{"id": "https://app.example/a/1", "type": "Like"}', key_id: 'k', inboxes: [] },
  { activity: { id: 'https://app.example/a/1' }, key_id: 'k', recipients: [{ inbox: 'https://one.example/inbox', headers: { 'X-A': '1' } }], final_statuses: [401] },
  { activity: {}, key: { key_id: 'k', private_key_pem: '-----BEGIN PRIVATE KEY-----', pin: true }, inboxes: [] },
  { activity: {}, key: { key_id: 'k', private_key_jwk: { kty: 'OKP' } }, inboxes: [] },
  // @ts-expect-error: the activity is missing
  { key_id: 'k', inboxes: [] },
  // @ts-expect-error: there is no such priority
  { activity: {}, key_id: 'k', priority: 'urgent' },
  // @ts-expect-error: there is no such member
  { activity: {}, key_id: 'k', prioritty: 'high' },
];
