// Package interop holds only tests: they ask verifiers that were written elsewhere what they think of Postrider's
// deliveries.
//
// The program is built and started as a node, and posts to inboxes on loopback that keep each request as it came over
// the wire, some of them behind a proxy that ends TLS. Hosts that can't be reached here (names, default ports) get theirs
// from the same signer and net/http, with a dialler of the test's. Then each verifier that knows the scheme gets the very
// bytes: the JavaScript ones in a Node.js process (testdata/verifiers.mjs, over one more socket), the Go ones as net/http
// parses them. All have to accept what is genuine and to refuse what was tampered with; what one of them can't see or
// doesn't take is in a table with the reason, which is asserted too, so that it doesn't outlive the reason.
//
// The npm packages are pinned by testdata/package-lock.json and installed into testdata/node_modules when they are first
// needed. Without Node.js and npm the tests are skipped, or fail if REQUIRE_NODE=1. FEDERATION.md lists the verifiers.
package interop
