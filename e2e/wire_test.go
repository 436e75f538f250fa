package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/testinbox"
)

// trusting writes the authority of a fleet's certificates to a file and returns the setting that names it.
func trusting(t *testing.T, f *testinbox.Fleet) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, f.CA(), 0o600); err != nil {
		t.Fatal(err)
	}
	return "--ca-file=" + file
}

// TestTooLargeIsRejected checks that a host which refuses a large activity before it has read it, and resets the
// connection meanwhile, gets no other attempt.
func TestTooLargeIsRejected(t *testing.T) {
	early := testinbox.Early(http.StatusRequestEntityTooLarge, `{"error":"too large"}`)
	clear := startFleet(t, 1, func(int) http.Handler { return early })
	secure, err := testinbox.StartTLSFleet(1, func(int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestEntityTooLarge) })
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = secure.Close() })
	node := startNode(t, trusting(t, secure), "--retry-base", "1h")
	large := strings.TrimSuffix(like("large"), "}") + `,"content":"` + strings.Repeat("x", 1000<<10) + `"}`
	a := node.accept(submission{activity: large, inboxes: []string{clear.Inbox(0, "/inbox"), secure.Inbox(0, "/inbox")}})
	if got := node.settled(a); got.Dead != 2 {
		t.Errorf("counts %+v, deliveries %+v", got, node.deliveries(a))
	}
	for _, l := range node.deadLetters("") {
		if l.Reason != "rejected" || l.LastAttempt.Status != http.StatusRequestEntityTooLarge {
			t.Errorf("dead letter %+v", l)
		}
	}
	if got := node.deadLetters("host=" + clear.Host(0)); len(got) != 1 || got[0].LastAttempt.Error != "too large" {
		t.Errorf("dead letters %+v", got)
	}
}

// TestLargeHandshakesGetLost checks that a host is reached, at the next attempt, that is behind a middlebox that drops
// packets as large as the client hello of hybrid key exchange.
func TestLargeHandshakesGetLost(t *testing.T) {
	in := testinbox.New(testinbox.Options{Keys: publicKey})
	fleet, err := testinbox.StartTLSFleet(1, func(int) http.Handler { return in })
	if err != nil {
		t.Fatal(err)
	}
	box, err := testinbox.StartMiddlebox(fleet.Host(0), 1400)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = box.Close(); _ = fleet.Close() })
	node := startNode(t, trusting(t, fleet), "--connect-timeout", "1s")
	if got := node.settled(node.deliver(like("1"), "https://"+box.Host()+"/inbox")); got.Delivered != 1 || box.Dropped() != 1 {
		t.Errorf("counts %+v, %d connections dropped", got, box.Dropped())
	}
}

// TestHTTP1IsRequired checks that a host which speaks HTTP/2 but wants HTTP/1.1 gets it in the same attempt.
func TestHTTP1IsRequired(t *testing.T) {
	in := testinbox.New(testinbox.Options{Keys: publicKey})
	fleet, err := testinbox.StartHTTP1Fleet(1, false, func(int) http.Handler { return in })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fleet.Close() })
	node := startNode(t, trusting(t, fleet), "--retry-base", "1h")
	for _, id := range []string{"1", "2"} {
		if got := node.settled(node.deliver(like(id), fleet.Inbox(0, "/inbox"))); got.Delivered != 1 {
			t.Errorf("counts %+v", got)
		}
	}
	if got := schemes(t, in.Received()); got != "cavage cavage" {
		t.Errorf("requests %s", got)
	}
}
