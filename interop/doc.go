// Package interop holds only tests: they check Postrider's deliveries and its OpenAPI document with independent programs.
//
// A node in a separate process posts to inboxes on loopback that keep each request as it came over the wire, some of
// them behind a proxy that ends TLS. For hosts that can't be reached here (names, default ports) the requests come from
// the same signer and net/http, with the test's own dialler. Then each verifier that knows the scheme gets the same bytes:
// the JavaScript ones in a Node.js process (testdata/verifiers.mjs, over one more socket), the Go ones as net/http parses
// them. All must accept genuine requests and refuse those that were tampered with. A table lists the exceptions of each
// verifier with the reasons; the tests assert them too, so that none outlives its reason.
//
// Two linters must find nothing in the OpenAPI document, and the README's call must compile against a client that is
// generated from it (testdata/openapi.mjs, testdata/client.ts).
//
// The npm packages are pinned by testdata/package-lock.json and installed into testdata/node_modules when they are first
// needed. Without Node.js and npm the tests are skipped, or fail if REQUIRE_NODE=1. FEDERATION.md lists the verifiers.
package interop
