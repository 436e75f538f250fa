package e2e

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// TestActivityAsText checks that an activity that comes as a string is sent as the bytes of its text.
func TestActivityAsText(t *testing.T) { onBothStores(t, testActivityAsText) }

func testActivityAsText(t *testing.T, s store) {
	h := startHost(t, testinbox.Options{})
	node := s.startNode(t)
	text := " {\"id\":\"https://app.example/text/1\",\n\t\"type\":\"Like\", \"n\":1.0E+2, \"e\":\"é\\u00e9\\/<&\u2028\"} \n"
	if got := node.settled(node.deliver(harness.JSON(text), h.Inbox(0, "/inbox"))); got.Delivered != 1 {
		t.Fatalf("counts %+v", got)
	}
	got := h.inboxes[0].Received()
	if len(got) != 1 || got[0].BodyHash != sha256.Sum256([]byte(text)) || got[0].BodySize != len(text) {
		t.Errorf("received %+v, want %q", got, text)
	}
}

// TestOrderingKeysMayHoldAnything checks that an ordering key may be any string: deliveries with the same key go out
// in order, and only those.
func TestOrderingKeysMayHoldAnything(t *testing.T) { onBothStores(t, testOrderingKeysMayHoldAnything) }

func testOrderingKeysMayHoldAnything(t *testing.T, s store) {
	keys := []string{"a\nb", "a", "\x00", "\x00\x00", "a:b", " ", "é😀\u202e", strings.Repeat("\n", 2048)}
	var attempted sync.Map
	h := startHost(t, scripted(func(r testinbox.Request) testinbox.Reply {
		if _, again := attempted.LoadOrStore(r.ActivityID, true); strings.HasSuffix(r.ActivityID, "first") && !again {
			return testinbox.Reply{Status: http.StatusFound}
		}
		return testinbox.Reply{}
	}))
	node := s.startNode(t)
	var all []acceptedView
	for i, key := range keys {
		for _, when := range []string{"first", "second"} {
			all = append(all, node.deliver(like(string(rune('a'+i))+"-"+when), h.Inbox(0, "/inbox"), `,"ordering_key":`, harness.JSON(key)))
		}
	}
	for _, a := range all {
		if got := node.settled(a); got.Delivered != 1 {
			t.Errorf("counts %+v", got)
		}
	}
	last := map[string]string{}
	for _, r := range h.inboxes[0].Received() {
		id := lastPart(r.ActivityID)
		if chain, when, _ := strings.Cut(id, "-"); when == "first" && last[chain] == "second" {
			t.Errorf("%q: the second came before the first was delivered", keys[chain[0]-'a'])
		} else {
			last[chain] = when
		}
	}
	if len(last) != len(keys) || h.count() != 3*len(keys) {
		t.Errorf("%d requests in %d chains", h.count(), len(last))
	}
}

// TestNoInboxAccepted checks that a call whose inboxes are all refused differs from one with a fault: for programs by
// the type and the codes, and for people by the page that the type names.
func TestNoInboxAccepted(t *testing.T) {
	node := startNode(t)
	if a := node.Call(http.MethodPost, "/v1/hosts/blocked.example/block", ""); a.Status != http.StatusOK {
		t.Fatalf("block: %d %s", a.Status, a.Body)
	}
	inboxes := []string{"https://10.0.0.1/inbox", "ftp://one.example/", "https://blocked.example/inbox"}
	a := node.Call(http.MethodPost, "/v1/activities", submission{activity: like("1"), inboxes: inboxes}.String())
	p, err := problemOf(a)
	if err != nil || a.Status != http.StatusUnprocessableEntity || len(p.Errors) != len(inboxes) {
		t.Fatalf("answered %d %s", a.Status, a.Body)
	}
	for i, want := range []string{"private_address", "bad_url", "host_blocked"} {
		if f := p.Errors[i]; f.Code != want || f.Inbox != inboxes[i] {
			t.Errorf("got %+v, want %s of %s", f, want, inboxes[i])
		}
	}
	if page := node.Call(http.MethodGet, p.Type, ""); page.Status != http.StatusOK || !strings.Contains(page.Body, p.Title) {
		t.Errorf("%s: %d %s", p.Type, page.Status, page.Body)
	}
	faulty := node.Call(http.MethodPost, "/v1/activities", submission{activity: `{"type":"Like"}`, inboxes: inboxes}.String())
	if p, err := problemOf(faulty); err != nil || p.Type != "about:blank" {
		t.Errorf("a call with a fault: %s", faulty.Body)
	}
}

// TestBatch checks that a batch is answered line by line, that what was accepted outlives the node, and that deliveries of
// one ordering key go out in the order of the lines.
func TestBatch(t *testing.T) { onBothStores(t, testBatch) }

func testBatch(t *testing.T, s store) {
	const lines, chains = 300, 10
	h := startHosts(t, chains, func(int) testinbox.Options { return testinbox.Options{} })
	node := s.startProcess(t)
	var body strings.Builder
	for i := range lines {
		chain := i % chains
		call := submission{activity: like(fmt.Sprint(i)), inboxes: []string{h.Inbox(chain, "/inbox")}, more: fmt.Sprintf(`,"ordering_key":"chain %d"`, chain)}
		if chain == 7 {
			call.inboxes = []string{"http://10.0.0.1/"}
		}
		body.WriteString(call.String() + "\n")
	}
	post := func() []string {
		a := node.Call(http.MethodPost, "/v1/activities/batch", body.String(), "Content-Type", "application/x-ndjson", "Idempotency-Key", "batch")
		got := strings.Split(strings.TrimSuffix(a.Body, "\n"), "\n")
		if a.Status != http.StatusOK || len(got) != lines {
			t.Fatalf("%d with %d lines: %.500s", a.Status, len(got), a.Body)
		}
		return got
	}
	first := post()
	node.Kill()
	again := post()
	for i, text := range first {
		view, err := decode[struct {
			acceptedView
			Status   int
			Replayed bool
		}](text)
		switch {
		case err != nil:
			t.Fatal(err)
		case i%chains == 7:
			if view.Status != http.StatusUnprocessableEntity {
				t.Errorf("line %d: %s", i, text)
			}
		case view.Status != http.StatusAccepted || again[i] != strings.Replace(text, `"status":202,`, `"status":202,"replayed":true,`, 1):
			t.Errorf("line %d: %s, then %s", i, text, again[i])
		default:
			if got := node.settled(view.acceptedView); got.Delivered != 1 {
				t.Errorf("line %d: counts %+v", i, got)
			}
		}
	}
	for chain, in := range h.inboxes {
		var arrived []string
		for _, r := range in.Received() {
			if id := lastPart(r.ActivityID); len(arrived) == 0 || arrived[len(arrived)-1] != id { // the kill may repeat one
				arrived = append(arrived, id)
			}
		}
		for i, id := range arrived {
			if want := fmt.Sprint(i*chains + chain); id != want {
				t.Fatalf("inbox %d got %v", chain, arrived)
			}
		}
		if len(arrived) != lines/chains && chain != 7 {
			t.Errorf("inbox %d got %d activities", chain, len(arrived))
		}
	}
}
