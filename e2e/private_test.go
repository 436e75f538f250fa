package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// TestPrivateInboxesAreRefused checks that without an allow list intake refuses every spelling of a private address, and
// everything that is no inbox.
func TestPrivateInboxesAreRefused(t *testing.T) {
	t.Parallel()
	node := startNode(t, "--allow-private-addresses", "")
	want := map[string]string{}
	for _, host := range []string{
		"127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "017700000001", "0177.0.0.1", "127.0.0.01", "0", "0.0.0.0",
		"127.0.0.1.", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "169.254.169.254", "100.64.0.1", "192.0.2.1",
		"198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "１２７.０.０.１", "①②⑦.0.0.1", "127。0。0。1", "[::1]", "[::]",
		"[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:10.0.0.1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]",
		"[64:ff9b:1::1]", "[2002:7f00:1::]", "[2002:a00:1::1]", "[2001::1]", "[fe80::1]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[2001:db8::1]", "localhost", "LOCALHOST",
		"localhost.", "app.localhost", "ip6-localhost", "localhost.localdomain",
	} {
		want["http://"+host+"/inbox"], want["https://"+host+":8443/inbox"] = "private_address", "private_address"
	}
	for _, inbox := range []string{
		"", "inbox", "/inbox", "https:", "https://", "https:///inbox", "https:one.example/inbox", "//one.example/inbox", "ftp://one.example/inbox",
		"file:///etc/passwd", "gopher://127.0.0.1/", "unix:///run/x", "javascript:alert(1)", "https://user@127.0.0.1/", "https://one.example@127.0.0.1/",
		"https://one.example:pw@two.example/", "https://127.0.0.1:80\\@one.example/", "https://one.example\\@127.0.0.1/", "https://one.example:0/",
		"https://one.example:65536/", "https://one.example:80:80/", "https://one.example/a b", "https://one.example/\r\nHost: x", "https://one.example/\x00",
		"https://[::1", "https://::1/", "https://[fe80::1%25lo]/", "https://one..example/", "https://-one.example/", "https://a*b.example/", "https://one.example/%zz",
		"https://" + strings.Repeat("a", 64) + ".example/", "https://one.example/" + strings.Repeat("a", 2048), "https://hidden.onion/inbox",
	} {
		want[inbox] = "bad_url"
	}
	got := map[string]string{}
	for inbox := range want {
		a := node.Call(http.MethodPost, "/v1/activities", submission{activity: like("ssrf"), inboxes: []string{inbox}}.String())
		p, err := problemOf(a)
		if err != nil || a.Status != http.StatusUnprocessableEntity || len(p.Errors) != 1 || p.Errors[0].Location != "body.inboxes[0]" {
			t.Errorf("%.80q: %d %s", inbox, a.Status, a.Body)
			continue
		}
		got[inbox] = p.Errors[0].Reason
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestNothingReachesAnAddressNotAllowed checks that neither a redirect nor a name leads to an address that the allow
// list leaves out: not one connection is made there.
func TestNothingReachesAnAddressNotAllowed(t *testing.T) {
	t.Parallel()
	port, connections := forbidden(t)
	targets := []string{
		fmt.Sprintf("http://127.0.0.1:%d/", port), fmt.Sprintf("http://2130706433:%d/", port), fmt.Sprintf("//127.0.0.1:%d/", port),
		fmt.Sprintf("http://localhost:%d/", port), fmt.Sprintf("http://[::ffff:127.0.0.1]:%d/", port),
	}
	statuses := []int{301, 302, 303, 307, 308}
	h := startHosts(t, len(targets)*len(statuses), func(i int) testinbox.Options {
		return replies(testinbox.Reply{Status: statuses[i%len(statuses)], Header: http.Header{"Location": {targets[i/len(statuses)]}}})
	})
	node := startNode(t, "--allow-private-addresses", "127.1.0.0/16", "--retry-base", "1h")
	a := node.accept(submission{activity: like("redirected"), inboxes: h.urls()})
	harness.Eventually(t, "all were attempted", func() bool { return h.count() == len(h.inboxes) && attempted(node, a) == len(h.inboxes) })
	for _, d := range node.deliveries(a) {
		if d.LastAttempt.Outcome != "redirected" {
			t.Errorf("delivery %+v", d)
		}
	}
	checkNameOfPrivateAddress(t, node, port)
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections to an address that is not allowed", n)
	}
}

// attempted counts the deliveries with an attempt.
func attempted(node *testNode, a acceptedView) (n int) {
	for _, d := range node.deliveries(a) {
		if d.Attempts > 0 {
			n++
		}
	}
	return n
}

// forbidden listens where no node may dial, and counts connections.
func forbidden(t *testing.T) (port int, connections *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connections = &atomic.Int64{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().(*net.TCPAddr).Port, connections
}

// checkNameOfPrivateAddress delivers to this machine by its name, where the system knows that as a private address.
func checkNameOfPrivateAddress(t *testing.T, node *testNode, port int) {
	t.Helper()
	name, err := os.Hostname()
	addresses, lookupErr := net.DefaultResolver.LookupHost(t.Context(), name)
	if err != nil || lookupErr != nil || !allPrivate(addresses) {
		t.Logf("the name of this machine, %q, has no private address to try: %v", name, addresses)
		return
	}
	a := node.deliver(like("by-name"), fmt.Sprintf("http://%s:%d/inbox", name, port))
	if got := node.settled(a); got.Dead != 1 {
		t.Errorf("counts %+v", got)
	}
	host := fmt.Sprintf("%s:%d", strings.ToLower(name), port)
	letters := node.deadLetters("host=" + host)
	if len(letters) != 1 || letters[0].Reason != "private_address" || letters[0].LastAttempt.Outcome != "private_address" {
		t.Errorf("dead letters %+v", letters)
	}
	if got := node.host(host); got.Breaker.Failures != 0 || got.State != "healthy" {
		t.Errorf("the refusal counts against the host: %+v", got)
	}
}

func allPrivate(addresses []string) bool {
	for _, address := range addresses {
		ip := net.ParseIP(address)
		if !ip.IsPrivate() && !ip.IsLoopback() || strings.HasPrefix(address, "127.1.") {
			return false
		}
	}
	return len(addresses) > 0
}
