package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testdns"
)

// orderView is a pause or a block as it is shown.
type orderView struct {
	Action, Host, Reason string
	Until                time.Time
	Subdomains           bool
}

// order does something to a host, and returns which orders hold for it then.
func (n *testNode) order(host, action, body string) []orderView {
	n.T.Helper()
	answer := n.Call(http.MethodPost, "/v1/hosts/"+url.PathEscape(host)+"/"+action, body)
	return read[struct{ Orders []orderView }](n, http.StatusOK, answer).Orders
}

// TestOrdersForDomains checks a pause and a block of all hosts under a name: they outlast a node that is killed, the pause ends by
// itself, and the block refuses a host that is not known yet.
func TestOrdersForDomains(t *testing.T) { onBothStores(t, testOrdersForDomains) }

func testOrdersForDomains(t *testing.T, s store) {
	h := startNamedHosts(t, 2)
	h.names["x.host0.example"] = h.names["host0.example"]
	node := s.startAsking(t, []*testdns.Server{testdns.Start(t, h.script("", testdns.NoName))})
	under, beside := "x."+h.lane(0), h.lane(1)
	inboxes := []string{"http://" + under + "/inbox", "http://" + beside + "/inbox"}

	node.order("host0.example", "pause", `{"reason":"they move","subdomains":true}`)
	a := node.accept(submission{activity: like("1"), inboxes: inboxes})
	harness.Eventually(t, "the other host is served", func() bool { return node.activity(a).Counts.Delivered == 1 })
	node.Kill()
	if got := node.host(under); got.State != "paused" || got.Pending != 1 || h.inboxes[0].Count() != 0 {
		t.Errorf("the covered host got %d requests: %+v", h.inboxes[0].Count(), got)
	}
	until := time.Now().Add(time.Second).UTC().Format(time.RFC3339Nano)
	got := node.order("host0.example", "pause", fmt.Sprintf(`{"reason":"nearly there","subdomains":true,"until":%q}`, until))
	if len(got) != 1 || got[0].Reason != "nearly there" || !got[0].Subdomains || got[0].Until.IsZero() {
		t.Errorf("orders %+v", got)
	}
	if got := node.settled(a); got.Delivered != 2 {
		t.Errorf("counts %+v", got)
	}
	harness.Eventually(t, "no host is paused", func() bool { return len(node.inState("paused")) == 0 })

	node.order("host0.example", "block", `{"reason":"spam","subdomains":true}`)
	b := node.accept(submission{activity: like("2"), inboxes: append(inboxes, "http://new."+h.lane(0)+"/inbox")})
	if b.Accepted != 1 || len(b.Rejected) != 2 || b.Rejected[0].Reason != "host_blocked" {
		t.Errorf("accepted %+v", b)
	}
	p, err := problemOf(node.Call(http.MethodPost, "/v1/hosts/"+url.PathEscape(under)+"/unblock", ""))
	if err != nil || p.Status != http.StatusConflict || len(p.Errors) != 1 || p.Errors[0].Code != "covered" || p.Detail != "unblock host0.example instead" {
		t.Errorf("answered %+v: %v", p, err)
	}
	if got := node.order("host0.example", "unblock", ""); len(got) != 0 {
		t.Errorf("orders %+v", got)
	}
	if got := node.settled(node.accept(submission{activity: like("3"), inboxes: inboxes})); got.Delivered != 2 {
		t.Errorf("counts %+v", got)
	}
}
