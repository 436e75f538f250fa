package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// peculiar are activities whose bytes don't survive being parsed and written again.
func peculiar() []string {
	var list []string
	for i, object := range []string{
		`"https://remote.example/notes/1"`,
		`{"type":"Note","content":"Grüße, こんにちは, 🐎, \u00fc, \ud83d\udc0e"}`,
		`{"type":"Note","url":"https:\/\/app.example\/notes\/2","content":"<p>&amp; < > \u2028<\/p>"}`,
		"{ \"type\" :\t\"Note\" ,\r\n\n  \"content\":  \"odd  spacing\"  }",
		`{"type":"Note","n":12345678901234567890123456789,"x":1.0e+2,"y":-0,"z":1E400}`,
		`{"type":"Note","type":"Article","content":"a","content":"b","id":null}`,
		`[{"type":"Note"},{"type":"Note"},[],{},null,true]`,
		`{"type":"Note","":"empty name","content":"` + strings.Repeat("long ", 20_000) + `"}`,
		`{"type":"Note","content":"\"\\\/\b\f\n\r\t\u0000"}`,
		`{"type":"Note","tag":{"a":{"b":{"c":{"d":[[[[1]]]]}}}}}`,
	} {
		list = append(list, fmt.Sprintf(`{ "@context":"https://www.w3.org/ns/activitystreams","type":"Announce",`+
			"\n"+`"id":"https:\/\/app.example/a/%d", "object":%s}`, i, object))
	}
	return list
}

func TestEveryDeliveryArrivesOnceByteForByte(t *testing.T) {
	onBothStores(t, testEveryDeliveryArrivesOnceByteForByte)
}

func testEveryDeliveryArrivesOnceByteForByte(t *testing.T, s store) {
	const n = 50
	h := startHosts(t, n, fine)
	node := s.startNode(t, "--lease-ttl", "1m") // no lease lapses, however busy the machine is: then there may be repeats
	want := map[string][sha256.Size]byte{}
	var posted []acceptedView
	for i, activity := range peculiar() {
		want[fmt.Sprintf("https://app.example/a/%d", i)] = sha256.Sum256([]byte(activity))
		posted = append(posted, node.accept(submission{activity: activity, inboxes: h.urls()}))
	}
	for _, a := range posted {
		node.settled(a)
		got := node.activity(a)
		if got.State != "done" || got.Counts != (countsView{Total: n, Delivered: n}) || got.KeyID != keyID || got.Type != "Announce" {
			t.Errorf("activity %+v", got)
		}
		if list := node.deliveries(a); len(list) != 0 {
			t.Errorf("deliveries that are done are listed: %+v", list)
		}
	}
	for i, in := range h.inboxes {
		got := map[string][sha256.Size]byte{}
		for _, r := range in.Received() {
			got[r.ActivityID] = r.BodyHash
			checkRequest(t, r, h.Host(i))
		}
		if diff := cmp.Diff(want, got); diff != "" || in.Count() != len(want) {
			t.Errorf("host %d got %d requests: %s", i, in.Count(), diff)
		}
	}
	type stats struct {
		Fleet struct{ Pending, Dead, Delivered int }
	}
	got := get[stats](node, "/v1/stats")
	if got.Fleet.Delivered != n*len(want) || got.Fleet.Pending != 0 || got.Fleet.Dead != 0 {
		t.Errorf("stats %+v", got)
	}
}

// checkRequest compares a first attempt with the promised request.
func checkRequest(t *testing.T, r testinbox.Request, host string) {
	t.Helper()
	if !r.Valid || r.Scheme != testinbox.Cavage || r.KeyID != keyID || r.Method != http.MethodPost || r.Host != host || r.Path != "/inbox" {
		t.Errorf("request to %s: %+v", host, r)
	}
	if got := r.Header.Get("Content-Type"); got != "application/activity+json" {
		t.Errorf("Content-Type %q", got)
	}
	if got, want := r.Header.Get("Digest"), "SHA-256="+base64.StdEncoding.EncodeToString(r.BodyHash[:]); got != want {
		t.Errorf("Digest %q, want %q", got, want)
	}
	if got := r.Header.Get("User-Agent"); !strings.HasPrefix(got, "Postrider/") || r.Header.Get("Accept") == "" {
		t.Errorf("User-Agent %q, Accept %q", got, r.Header.Get("Accept"))
	}
	want := `",algorithm="rsa-sha256",headers="(request-target) host date digest content-type",signature="`
	if got := r.Header.Get("Signature"); !strings.Contains(got, want) {
		t.Errorf("Signature %q lacks %q", got, want)
	}
	for _, name := range []string{"Idempotency-Key", "Accept-Encoding", "Signature-Input", "Content-Digest"} {
		if r.Header.Get(name) != "" {
			t.Errorf("header %s: %s", name, r.Header.Get(name))
		}
	}
}

func TestSharedInboxesHeadersAndOwnActor(t *testing.T) {
	onBothStores(t, testSharedInboxesHeadersAndOwnActor)
}

func testSharedInboxesHeadersAndOwnActor(t *testing.T, s store) {
	h := startHosts(t, 2, fine)
	node := s.startNode(t, "--user-agent", "Postrider/1 (+https://app.example/)")
	const sync = `collectionId=\"https://app.example/followers\"`
	a := node.accept(submission{activity: like("shared"), inboxes: []string{h.Inbox(0, "/shared")}, more: `,"recipients":[` + strings.Join([]string{
		fmt.Sprintf(`{"inbox":%q,"shared_inbox":%q,"headers":{"Collection-Synchronization":"%s"}}`, h.Inbox(0, "/bob"), h.Inbox(0, "/shared"), sync),
		fmt.Sprintf(`{"inbox":%q,"shared_inbox":%q}`, h.Inbox(0, "/eve"), h.Inbox(0, "/shared")),
		fmt.Sprintf(`{"id":"https://app.example/users/alice","inbox":%q}`, h.Inbox(1, "/alice")),
		fmt.Sprintf(`{"inbox":%q}`, h.Inbox(1, "/users/%2Fodd%20path?q=%C3%BC")),
	}, ",") + `]`})
	if a.Accepted != 2 || len(a.Rejected) != 0 {
		t.Errorf("accepted %+v", a)
	}
	if got := node.settled(a); got.Delivered != 2 {
		t.Errorf("counts %+v", got)
	}
	shared, odd := h.inboxes[0].Received(), h.inboxes[1].Received()
	if len(shared) != 1 || !shared[0].Valid || shared[0].Path != "/shared" || len(odd) != 1 || !odd[0].Valid || odd[0].Path != "/users/%2Fodd%20path?q=%C3%BC" {
		t.Fatalf("got %+v and %+v", shared, odd)
	}
	r := shared[0]
	if got := r.Header.Get("Collection-Synchronization"); got != `collectionId="https://app.example/followers"` ||
		!strings.Contains(r.Header.Get("Signature"), `content-type collection-synchronization"`) {
		t.Errorf("headers %v", r.Header)
	}
	if got := r.Header.Get("User-Agent"); got != "Postrider/1 (+https://app.example/)" {
		t.Errorf("User-Agent %q", got)
	}
}

func TestTLSInboxes(t *testing.T) {
	t.Parallel()
	inbox := testinbox.New(testinbox.Options{Keys: publicKey})
	protocols := make(chan string, 100)
	fleet, err := testinbox.StartTLSFleet(3, func(int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			protocols <- r.Proto
			inbox.ServeHTTP(w, r)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fleet.Close() })
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, fleet.CA(), 0o600); err != nil {
		t.Fatal(err)
	}
	trusting, strict := startNode(t, "--ca-file", file, "--allow-http=false"), startNode(t, "--allow-http=false")
	inboxes := []string{fleet.Inbox(0, "/inbox"), fleet.Inbox(1, "/inbox"), fleet.Inbox(2, "/inbox"), "http://127.1.0.1/inbox"}
	a := trusting.accept(submission{activity: like("tls"), inboxes: inboxes})
	if a.Accepted != 3 || len(a.Rejected) != 1 || a.Rejected[0].Reason != "http_not_allowed" || a.Rejected[0].Inbox != inboxes[3] {
		t.Errorf("accepted %+v", a)
	}
	if got := trusting.settled(a); got.Delivered != 3 || inbox.Count() != 3 {
		t.Errorf("counts %+v, %d requests", got, inbox.Count())
	}
	for _, r := range inbox.Received() {
		if proto := <-protocols; proto != "HTTP/2.0" || !r.Valid {
			t.Errorf("spoke %s, valid %t: %s", proto, r.Valid, r.Reason)
		}
	}
	// A node that does not trust the authority sends nothing.
	a = strict.deliver(like("tls"), inboxes[0])
	harness.Eventually(t, "the attempt fails", func() bool { return strict.deliveries(a)[0].Attempts > 0 })
	if d := strict.deliveries(a)[0]; d.LastAttempt.Outcome != "unreachable" || !strings.Contains(d.LastAttempt.Error, "certificate") {
		t.Errorf("delivery %+v", d)
	}
	if inbox.Count() != 3 {
		t.Error("an inbox got something from a node that can't know it")
	}
}
