// Verifies requests by libraries that Postrider's authors did not write.
//
// Started with the public keys in PEM by key ID, as JSON, it listens on two ports of loopback and prints them as JSON: what
// comes to the one counts as sent to an http:// inbox, what comes to the other as sent to an https:// inbox behind a proxy
// that ends TLS. It answers every request with what the verifiers say of it, as JSON: "" if accepted, else why not. Only
// those are asked that know the scheme of the signature. It ends when its standard input does.

import { createHash, createPublicKey } from 'node:crypto';
import { createServer } from 'node:http';

import { verifyRequest } from '@fedify/fedify/sig';
import { parseRequestSignature, verifyDraftSignature } from '@misskey-dev/node-http-message-signatures';
import peertube from '@peertube/http-signature';
import activitypub from 'activitypub-http-signatures';
import { cavage, createVerifier, httpbis } from 'http-message-signatures';
import joyent from 'http-signature';

const keys = JSON.parse(process.argv[2]);

// A request is Node's own (m.incoming), with its body, its scheme and the URL that it was sent to.
// verify returns true, or anything else, or throws.
const verifiers = [
  {
    name: '@fedify/fedify',
    schemes: ['cavage', 'rfc9421'],
    verify: async (m) => {
      const init = { method: m.incoming.method, headers: m.incoming.headers, body: m.body };
      const key = await verifyRequest(new Request(m.url, init), { documentLoader: loadActor });
      return key !== null && key.id.href === m.keyID;
    },
  },
  { // As PeerTube asks it, which compares the digest by itself.
    name: '@misskey-dev/node-http-message-signatures',
    schemes: ['cavage'],
    verify: async (m) => {
      const parsed = parseRequestSignature(m.incoming, {
        requiredComponents: { draft: ['(request-target)', 'host', 'date', 'digest'] },
        clockSkew: { delay: 1_800_000, forward: 2_000 },
      });
      const fail = (reason) => { throw new Error(reason); };
      return sameDigest(m) && verifyDraftSignature(parsed.value, keys[parsed.value.keyId], fail);
    },
  },
  { // As Misskey asks it, which does so too.
    name: '@peertube/http-signature',
    schemes: ['cavage'],
    verify: (m) => byJoyent(peertube, m),
  },
  {
    name: 'http-signature',
    schemes: ['cavage'],
    verify: (m) => byJoyent(joyent, m),
  },
  {
    name: 'activitypub-http-signatures',
    schemes: ['cavage'],
    verify: (m) => {
      const parsed = activitypub.parse(m.incoming);
      return parsed !== null && sameDigest(m) && parsed.verify(keys[parsed.keyId]);
    },
  },
  {
    name: 'http-message-signatures',
    schemes: ['cavage', 'rfc9421'],
    verify: (m) => {
      const { method, headers } = m.incoming;
      const form = m.scheme === 'cavage' ? cavage : httpbis;
      return sameDigest(m) && form.verifyMessage({ keyLookup: findKey, tolerance: 60 }, { method, headers, url: m.url });
    },
  },
];

// An actor whose key has a document of its own; another such key names it as its owner too, but it doesn't list that.
const owner = 'https://app.example/users/owner';
const listed = 'https://app.example/keys/listed';

// The document that a key ID leads to, and that of a key's owner.
async function loadActor(url) {
  const context = ['https://www.w3.org/ns/activitystreams', 'https://w3id.org/security/v1'];
  if (url.startsWith('https://app.example/keys/')) {
    const document = { '@context': context, id: url, type: 'CryptographicKey', owner, publicKeyPem: keys[url] };
    return { contextUrl: null, documentUrl: url, document };
  }
  if (url === owner) {
    const publicKey = { id: listed, owner, publicKeyPem: keys[listed] };
    const document = { '@context': context, id: owner, type: 'Person', inbox: `${owner}/inbox`, publicKey };
    return { contextUrl: null, documentUrl: owner, document };
  }
  const keyID = Object.keys(keys).find((id) => id === url || id.startsWith(`${url}#`));
  if (keyID === undefined) throw new Error(`no document at ${url}`);
  const id = keyID.split('#')[0];
  return {
    contextUrl: null,
    documentUrl: id,
    document: {
      '@context': context,
      id,
      type: 'Person',
      inbox: `${id}/inbox`,
      publicKey: { id: keyID, owner: id, publicKeyPem: keys[keyID] },
    },
  };
}

function byJoyent(library, m) {
  const parsed = library.parseRequest(m.incoming, {
    authorizationHeaderName: 'signature',
    headers: ['(request-target)', 'host', 'date', 'digest'],
  });
  return sameDigest(m) && library.verifySignature(parsed, keys[parsed.keyId]);
}

// sameDigest is for the libraries that look at signatures only.
function sameDigest(m) {
  const hash = createHash('sha256').update(m.body).digest('base64');
  const [name, want] = m.scheme === 'cavage' ? ['digest', `SHA-256=${hash}`] : ['content-digest', `sha-256=:${hash}:`];
  if (m.incoming.headers[name] !== want) throw new Error(`${name} does not fit the body`);
  return true;
}

async function findKey({ keyid }) {
  const key = createPublicKey(keys[keyid]);
  const alg = key.asymmetricKeyType === 'ed25519' ? 'ed25519' : 'rsa-v1_5-sha256';
  return { id: keyid, algs: [alg], verify: createVerifier(key, alg) };
}

async function verdict(verifier, m) {
  try {
    return await verifier.verify(m) === true ? '' : 'refused';
  } catch (error) {
    return `refused: ${error.message}`;
  }
}

async function answer(protocol, incoming, response) {
  const chunks = [];
  for await (const chunk of incoming) chunks.push(chunk);
  const { headers } = incoming;
  const m = {
    incoming,
    body: Buffer.concat(chunks),
    url: `${protocol}://${headers.host}${incoming.url}`,
    scheme: 'signature-input' in headers ? 'rfc9421' : 'cavage',
    keyID: /keyid="([^"]*)"/i.exec(headers['signature-input'] ?? headers.signature)?.[1],
  };
  const verdicts = {};
  for (const verifier of verifiers.filter((v) => v.schemes.includes(m.scheme))) {
    verdicts[verifier.name] = await verdict(verifier, m);
  }
  response.end(JSON.stringify(verdicts));
}

async function listen(protocol) {
  const server = createServer((incoming, response) => {
    answer(protocol, incoming, response).catch((error) => response.writeHead(500).end(String(error)));
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  return server.address().port;
}

process.stdin.on('end', () => process.exit()).resume();
console.log(JSON.stringify({ http: await listen('http'), https: await listen('https') }));
