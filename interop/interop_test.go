package interop

import (
	"context"
	"crypto"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/internal/testinbox"
	"github.com/postrider/postrider/signer"
)

// TestInterop checks deliveries with all verifiers.
func TestInterop(t *testing.T) {
	harness.RequireNode(t)
	keys := makeKeys(t)
	p := &panel{published: make(map[string]crypto.PublicKey)}
	for _, k := range keys {
		p.published[k.id] = k.public
	}
	p.javascript = startJavascript(t, p.published)
	behind := openProxied(t)
	n := startNode(t, "--ca-file", behind.ca)
	for _, k := range keys {
		n.PutKey(k.id, k.private)
	}
	t.Run("genuine", func(t *testing.T) { testGenuine(t, n, p) })
	t.Run("proxied", func(t *testing.T) { testProxied(t, n, p, behind) })
	t.Run("hosts", func(t *testing.T) { testHosts(t, keys, p) })
	t.Run("tampered", func(t *testing.T) { testTampered(t, n, p) })
	t.Run("forged", func(t *testing.T) { testForged(t, n, p) })
	t.Run("owner", func(t *testing.T) { testOwner(t, n, p) })
	t.Run("second knock", func(t *testing.T) { testSecondKnock(t, n, p) })
}

// targets are the texts after the host in an inbox URL, and the wanted request targets.
func targets() map[string]string {
	return map[string]string{
		"/users/bob/inbox":                "/users/bob/inbox",
		"":                                "/",
		"?shared":                         "/?shared",
		"/users/あ/inbox":                  "/users/%E3%81%82/inbox",
		"/users/bob%40two.example/inbox":  "/users/bob%40two.example/inbox",
		"/a%2Fb/inbox":                    "/a%2Fb/inbox",
		"/a%2fb%20c%25/inbox":             "/a%2fb%20c%25/inbox",
		"/~bob/in-box_1.x!$&'()*+,;=:@/":  "/~bob/in-box_1.x!$&'()*+,;=:@/",
		"/inbox?a=1&b=%20x%2F&a=2":        "/inbox?a=1&b=%20x%2F&a=2",
		"/inbox?q=ü":                      "/inbox?q=%C3%BC",
		"/inbox?to=(bob)/?:@,;+*$!~-._":   "/inbox?to=(bob)/?:@,;+*$!~-._",
		"/inbox?":                         "/inbox?",
		"/in[box]":                        "/in[box]",
		"/inbox?x={|}^`[]":                "/inbox?x={|}^`[]",
		"//in//box/":                      "//in//box/",
		"/inbox#fragment":                 "/inbox",
		"/Inbox":                          "/Inbox",
		"/inbox?name='bob'":               "/inbox?name='bob'",
		"/users/bob/inbox/" + longSegment: "/users/bob/inbox/" + longSegment,
	}
}

var longSegment = strings.Repeat("long", 400)

// testGenuine delivers to inboxes of every shape, with every key, by both schemes.
func testGenuine(t *testing.T, n node, p *panel) {
	n = n.in(t)
	for _, keyID := range []string{rsa2048, pkcs1, rsa4096, edwards} {
		strict := openDoor(t, "127.0.0.1:0", knowsRFC9421)
		doors := append(openTolerant(t), strict)
		var inboxes, want, got []string
		for _, d := range doors {
			scheme := cavage
			if d == strict || keyID == edwards {
				scheme = rfc9421
			}
			for given, sent := range targets() {
				inboxes = append(inboxes, "http://"+d.host()+given)
				want = append(want, fmt.Sprintf("http://%s%s by %s with %s", d.host(), sent, scheme, keyID))
			}
		}
		n.deliver("https://app.example/announces/"+keyID, keyID, inboxes)
		for _, d := range doors {
			for _, r := range d.accepted() {
				got = append(got, r.String())
				check(t, p, r, refusals(), "")
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, slices.Compact(got)); diff != "" {
			t.Errorf("expected (-) and taken (+):\n%s", diff)
		}
	}
}

// proxied is a door behind a proxy that ends TLS and speaks HTTP/2, as most inboxes are.
type proxied struct {
	*door
	url string // of the proxy
	ca  string // the file with its authority's certificate
}

func openProxied(t *testing.T) proxied {
	t.Helper()
	d := openDoor(t, "127.0.0.1:0", accepts)
	d.protocol = "https"
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		if r.In.ProtoMajor != 2 {
			t.Errorf("%s over %s", r.In.RequestURI, r.In.Proto)
		}
		r.Out.URL.Scheme = "http"
		r.Out.URL.Host = d.host()
		r.Out.Host = r.In.Host
		r.Out.URL.RawQuery = r.In.URL.RawQuery // it would cut out what Go can't parse
	}}
	fleet, err := testinbox.StartTLSFleet(1, func(int) http.Handler { return proxy })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fleet.Close() })
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, fleet.CA(), 0o600); err != nil {
		t.Fatal(err)
	}
	return proxied{d, fleet.Inbox(0, ""), file}
}

// testProxied delivers through the proxy.
func testProxied(t *testing.T, n node, p *panel, behind proxied) {
	n = n.in(t)
	var inboxes []string
	for given := range targets() {
		inboxes = append(inboxes, behind.url+given)
	}
	n.deliver("https://app.example/proxied/rsa", rsa2048, inboxes)
	n.deliver("https://app.example/proxied/ed", edwards, inboxes)
	judged := 0
	for _, r := range behind.accepted() {
		if got := r.protocol + "://" + r.header("Host"); got != behind.url {
			t.Errorf("%s came to %s, want %s", r, got, behind.url)
		}
		check(t, p, r, refusals(), "")
		judged++
	}
	if judged != 2*len(inboxes) {
		t.Errorf("%d requests came for 2 activities to %d inboxes", judged, len(inboxes))
	}
}

// openTolerant opens doors that accept everything, on IPv4 and, if the machine has it, on IPv6.
func openTolerant(t *testing.T) []*door {
	t.Helper()
	doors := []*door{openDoor(t, "127.0.0.1:0", accepts)}
	if probe, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Logf("without IPv6 here: %v", err)
	} else {
		_ = probe.Close()
		doors = append(doors, openDoor(t, "[::1]:0", accepts))
	}
	return doors
}

// check verifies a request with all verifiers. Genuine requests must be accepted and tampered ones refused, but for the
// quirks, which must be as the tables say.
func check(t *testing.T, p *panel, r *request, quirks []quirk, tampering string) {
	t.Helper()
	genuine := tampering == ""
	verdicts, err := p.ask(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	for name, verdict := range verdicts {
		why := applies(quirks, name, r, tampering)
		switch accepted := verdict == ""; {
		case why == "" && accepted != genuine:
			t.Errorf("%s (tampering %q): %s said %q", r, tampering, name, verdict)
		case why != "" && accepted == genuine:
			t.Errorf("%s (tampering %q): %s said %q, so its quirk is gone: %s", r, tampering, name, verdict, why)
		}
	}
}

// testHosts signs for hosts that can't be reached here, as a node would: the URL is normalised, signed and sent by
// net/http. Only the connection leads elsewhere, and is in clear.
func testHosts(t *testing.T, keys []key, p *panel) {
	policy := netguard.NewPolicy([]netip.Prefix{netip.MustParsePrefix("2001:db8::/32")})
	for url, want := range map[string]string{
		"https://one.example/inbox":              "https://one.example/inbox",
		"https://one.example:443/inbox":          "https://one.example/inbox",
		"http://one.example:80/inbox":            "http://one.example/inbox",
		"http://one.example:443/inbox":           "http://one.example:443/inbox",
		"https://one.example:8443/inbox":         "https://one.example:8443/inbox",
		"HTTPS://One.Example./Inbox":             "https://one.example/Inbox",
		"https://bücher.example/inbox":           "https://xn--bcher-kva.example/inbox",
		"https://例え.テスト:8443/users/あ/inbox":      "https://xn--r8jz45g.xn--zckzah:8443/users/%E3%81%82/inbox",
		"https://xn--bcher-kva.example/inbox":    "https://xn--bcher-kva.example/inbox",
		"https://[2001:db8::1]/inbox":            "https://[2001:db8::1]/inbox",
		"https://[2001:DB8:0:0::443]:8443/inbox": "https://[2001:db8::443]:8443/inbox",
	} {
		inbox, refusal := netguard.ParseInbox(url, true, policy)
		if refusal != nil {
			t.Fatal(refusal)
		}
		for _, k := range keys[:4] {
			for _, scheme := range []signer.Scheme{signer.Cavage, signer.RFC9421} {
				r := signAndSend(t, k, scheme, inbox.URL)
				if got := r.protocol + "://" + r.header("Host") + r.target(); got != want {
					t.Errorf("%s was sent to %s, want %s", url, got, want)
				}
				check(t, p, r, refusals(), "")
			}
		}
	}
}

// signAndSend sends a signed activity to a door, whatever the URL says, and returns what arrived.
func signAndSend(t *testing.T, k key, scheme signer.Scheme, url string) *request {
	t.Helper()
	const body = `{"id":"https://app.example/likes/1","type":"Like","actor":"https://app.example/users/alice"}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/activity+json")
	params := signer.Params{KeyID: k.id, Scheme: scheme, Digest: sha256.Sum256([]byte(body))}
	if _, err := newSigner(t, k).Sign(t.Context(), req, params); err != nil {
		t.Fatal(err)
	}
	d := openDoor(t, "127.0.0.1:0", accepts)
	d.protocol = req.URL.Scheme
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", d.host())
	}
	resp, err := (&http.Transport{DialContext: dial, DialTLSContext: dial}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return d.requests()[0]
}

func newSigner(t *testing.T, k key) *signer.Signer {
	t.Helper()
	sealer, err := signer.NewSealer(make([]byte, signer.MasterKeySize))
	if err != nil {
		t.Fatal(err)
	}
	private, err := signer.ParsePrivateKey([]byte(k.private))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := sealer.Seal(k.id, private)
	if err != nil {
		t.Fatal(err)
	}
	return signer.New(signer.Options{Store: oneKey(sealed), Sealer: sealer})
}

// oneKey is a signer.Store of one sealed key.
type oneKey []byte

// SealedKey implements signer.Store.
func (k oneKey) SealedKey(context.Context, string, string) ([]byte, error) { return k, nil }

// testForged delivers activities that are signed by another key than their actor publishes.
func testForged(t *testing.T, n node, p *panel) {
	n = n.in(t)
	tolerant, strict := openDoor(t, "127.0.0.1:0", accepts), openDoor(t, "127.0.0.1:0", knowsRFC9421)
	n.deliver("https://app.example/forged", forged, []string{"http://" + tolerant.host() + "/inbox", "http://" + strict.host() + "/inbox"})
	for _, r := range append(tolerant.accepted(), strict.accepted()...) {
		check(t, p, r, nil, "key")
	}
}

// testOwner delivers activities signed by keys whose documents are not their owner's. Fedify accepts only keys that the owner
// lists.
func testOwner(t *testing.T, n node, p *panel) {
	n = n.in(t)
	for keyID, want := range map[string]bool{listed: true, stray: false} {
		tolerant, strict := openDoor(t, "127.0.0.1:0", accepts), openDoor(t, "127.0.0.1:0", knowsRFC9421)
		n.deliver("https://app.example/owned/"+keyID, keyID, []string{"http://" + tolerant.host() + "/inbox", "http://" + strict.host() + "/inbox"})
		for _, r := range append(tolerant.accepted(), strict.accepted()...) {
			verdicts, err := p.ask(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if said := verdicts["@fedify/fedify"]; (said == "") != want {
				t.Errorf("%s: Fedify said %q, want it taken: %t", r, said, want)
			}
		}
	}
}

// testSecondKnock delivers to an inbox that accepts what Fedify does: by draft-cavage it refuses an inbox URL with a query,
// so the node has to come again with RFC 9421, and to remember that.
func testSecondKnock(t *testing.T, n node, p *panel) {
	n = n.in(t)
	d := openDoor(t, "127.0.0.1:0", func(r *request) int {
		if verdicts, err := p.ask(t.Context(), r); err != nil || verdicts["@fedify/fedify"] != "" {
			return http.StatusUnauthorized
		}
		return http.StatusAccepted
	})
	for i := range 2 {
		n.deliver(fmt.Sprintf("https://app.example/knocks/%d", i), rsa2048, []string{"http://" + d.host() + "/inbox?shared=1"})
	}
	var knocks []string
	for _, r := range d.requests() {
		knocks = append(knocks, r.scheme())
	}
	if diff := cmp.Diff([]string{cavage, rfc9421, rfc9421}, knocks); diff != "" || n.knownScheme(d.host()) != rfc9421 {
		t.Errorf("the host is known to take %q; knocks expected (-) and made (+):\n%s", n.knownScheme(d.host()), diff)
	}
}
