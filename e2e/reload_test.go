package e2e

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testcert"
	"github.com/postrider/postrider/internal/testinbox"
)

// writeText writes a file that a node reads.
func writeText(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// hangUp sends SIGHUP, and waits until the node has logged an event once more.
func (n *testNode) hangUp(word string) {
	n.T.Helper()
	before := strings.Count(n.Out.String(), word)
	n.Signal(syscall.SIGHUP)
	harness.Eventually(n.T, "the node says "+word, func() bool { return strings.Count(n.Out.String(), word) > before })
	if n.Ended() {
		n.T.Fatalf("SIGHUP ended the node:\n%s", n.Out)
	}
}

// servedAs returns the name in the certificate that a node serves with.
func (n *testNode) servedAs() string {
	n.T.Helper()
	conn, err := tls.Dial("tcp", n.Listen, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		n.T.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// reloading is a node in a separate process that serves HTTPS, and has all in files that it reads again.
type reloading struct {
	*testNode
	ca            *testcert.Authority
	pair          testcert.Pair
	tokens, roots string
}

func startReloading(t *testing.T) *reloading {
	t.Helper()
	dir := t.TempDir()
	r := &reloading{ca: testcert.New(t), tokens: filepath.Join(dir, "tokens"), roots: filepath.Join(dir, "roots.pem")}
	r.pair = r.ca.Issue("first")
	writeText(t, r.tokens, "app:"+appToken+"\n")
	stranger, err := os.ReadFile(testcert.New(t).File)
	if err != nil {
		t.Fatal(err)
	}
	writeText(t, r.roots, string(stranger))
	r.testNode = newTestNode(t, true, []string{
		"--api-tokens", "@" + r.tokens, "--tls-cert-file", r.pair.Cert, "--tls-key-file", r.pair.Key, "--ca-file", r.roots,
	})
	r.Token, r.Scheme = appToken, "https"
	r.Client.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	r.begin()
	return r
}

// TestHangUp checks that a node reads its tokens, its certificate and its roots again at SIGHUP, which never ends it.
func TestHangUp(t *testing.T) {
	t.Parallel()
	inbox := testinbox.New(testinbox.Options{Keys: publicKey, Script: func(testinbox.Request) testinbox.Reply {
		return testinbox.Reply{Delay: 50 * time.Millisecond}
	}})
	fleet, err := testinbox.StartTLSFleet(1, func(int) http.Handler { return inbox })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fleet.Close() })
	node := startReloading(t)
	a := node.deliver(like("1"), fleet.Inbox(0, "/inbox"))
	harness.Eventually(t, "the inbox is not trusted", func() bool { return node.deliveries(a)[0].Attempts > 0 })
	if inbox.Count() != 0 || node.servedAs() != "first" {
		t.Fatalf("%d requests, served as %s", inbox.Count(), node.servedAs())
	}

	writeText(t, node.tokens, "ops:"+opsToken+"\n")
	writeText(t, node.roots, string(fleet.CA()))
	node.ca.Renew(node.pair, "second")
	node.hangUp("config.reread")
	if got := node.Call(http.MethodGet, "/v1/stats", "").Status; got != http.StatusUnauthorized {
		t.Errorf("the old token gets %d", got)
	}
	node.Token = opsToken
	if got := node.servedAs(); got != "second" {
		t.Errorf("served as %s", got)
	}
	if got := node.settled(a); got.Delivered != 1 {
		t.Errorf("counts %+v", got)
	}

	writeText(t, node.tokens, "ops:short\n")
	node.ca.Renew(node.pair, "third")
	node.hangUp("config.not_reread")
	if got := node.Call(http.MethodGet, "/v1/stats", "").Status; got != http.StatusOK || node.servedAs() != "second" {
		t.Errorf("with a bad file the token gets %d, served as %s", got, node.servedAs())
	}
	scan(t, "the log", []byte(node.Out.String()), map[string][]byte{"a token": []byte(appToken), "another token": []byte(opsToken)})
	for range 20 { // while work is in flight
		node.deliver(like("more"), fleet.Inbox(0, "/inbox"))
		node.Signal(syscall.SIGHUP)
	}
	if code, stdout, stderr := harness.RunOnce(t, nil, "healthcheck", "--listen", node.Listen, "--tls-cert-file", node.pair.Cert,
		"--tls-key-file", node.pair.Key); code != 0 {
		t.Errorf("healthcheck ended with %d: %s%s", code, stdout, stderr)
	}
}

// TestHangUpUnderLoad replaces tokens and certificate twice while apps make calls, each over a new connection. No call is lost:
// an app has another token before the node forgets the old one.
func TestHangUpUnderLoad(t *testing.T) {
	t.Parallel()
	node := startReloading(t)
	node.Client.Transport = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	l := startLoad(t, startHosts(t, 3, unhurried), node.testNode)
	for i, next := range []string{opsToken, appToken} {
		l.awaitMore(5)
		writeText(t, node.tokens, "old:"+node.Token+"\nnew:"+next+"\n")
		node.ca.Renew(node.pair, "both")
		node.hangUp("config.reread")
		l.awaitMore(5)
		old := node.Token
		l.between(func() { node.Token = next })
		l.awaitMore(5)
		writeText(t, node.tokens, "new:"+next+"\n")
		name := []string{"second", "third"}[i]
		node.ca.Renew(node.pair, name)
		node.hangUp("config.reread")
		l.awaitMore(5)
		if got := node.servedAs(); got != name {
			t.Errorf("served as %s", got)
		}
		if got := node.Call(http.MethodGet, "/v1/stats", "", "Authorization", "Bearer "+old).Status; got != http.StatusUnauthorized {
			t.Errorf("the old token gets %d", got)
		}
	}
	repeats := l.check()
	if _, refused := l.count(); refused+repeats > 0 {
		t.Errorf("%d calls were refused, %d deliveries repeated", refused, repeats)
	}
}
