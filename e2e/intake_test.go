package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// TestRepeatedCallsSendNothing checks that a call repeated with its Idempotency-Key gets the first answer again, also from
// a node that was killed in between.
func TestRepeatedCallsSendNothing(t *testing.T) { onBothStores(t, testRepeatedCallsSendNothing) }

func testRepeatedCallsSendNothing(t *testing.T, s store) {
	h := startHost(t, testinbox.Options{})
	node := s.startProcess(t)
	post := func(body, key string) harness.Answer {
		return node.Call(http.MethodPost, "/v1/activities", body, "Idempotency-Key", key)
	}
	body := submission{activity: like("once"), inboxes: h.urls(), more: `,"recipients":[{"inbox":"http://10.0.0.1/"}]`}.String()
	first := post(body, "once-7")
	node.settled(read[acceptedView](node, http.StatusAccepted, first))
	for _, between := range []func(){func() {}, node.Restart, node.Kill} {
		between()
		if a := post(body, "once-7"); a.Status != http.StatusAccepted || a.Body != first.Body {
			t.Errorf("answered %d %s, first %s", a.Status, a.Body, first.Body)
		}
		a := post(submission{activity: like("other"), inboxes: h.urls()}.String(), "once-7")
		if p, err := problemOf(a); a.Status != http.StatusUnprocessableEntity || err != nil || len(p.Errors) != 1 || p.Errors[0].Location != "header.Idempotency-Key" {
			t.Errorf("key used with other bytes: %d %s", a.Status, a.Body)
		}
	}
	// With another key it is another call. It also shows that nothing was on its way.
	again := post(body, "once-8")
	if got := node.settled(read[acceptedView](node, http.StatusAccepted, again)); got.Delivered != 1 || h.count() != 2 {
		t.Errorf("counts %+v, %d requests", got, h.count())
	}
}

// TestRepeatedWishIsSentAgain checks that without an Idempotency-Key a call of equal bytes is sent again once the
// first was delivered: the inbox gets Follow, Undo and Follow.
func TestRepeatedWishIsSentAgain(t *testing.T) { onBothStores(t, testRepeatedWishIsSentAgain) }

func testRepeatedWishIsSentAgain(t *testing.T, s store) {
	const id = "https://app.example/follows/1"
	const follow = `{"id":"` + id + `","type":"Follow","actor":"https://app.example/users/alice","object":"https://remote.example/users/bob"}`
	const undo = `{"id":"` + id + `/undo","type":"Undo","actor":"https://app.example/users/alice","object":` + follow + `}`
	h := startHost(t, testinbox.Options{})
	node := s.startNode(t)
	for _, activity := range []string{follow, undo, follow} {
		if got := node.settled(node.deliver(activity, h.Inbox(0, "/inbox"))); got.Delivered != 1 {
			t.Fatalf("counts %+v of %s", got, activity)
		}
	}
	var got []string
	for _, r := range h.inboxes[0].Received() {
		got = append(got, r.ActivityID)
	}
	if want := []string{id, id + "/undo", id}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestPendingActivityIsNotTakenTwice checks that an activity goes to an inbox once while it is pending, in whatever way it is
// submitted.
func TestPendingActivityIsNotTakenTwice(t *testing.T) {
	onBothStores(t, testPendingActivityIsNotTakenTwice)
}

func testPendingActivityIsNotTakenTwice(t *testing.T, s store) {
	var healed atomic.Bool
	h := startHosts(t, 2, func(i int) testinbox.Options {
		return scripted(func(testinbox.Request) testinbox.Reply {
			if i == 0 && !healed.Load() {
				return testinbox.Reply{Status: http.StatusFound}
			}
			return testinbox.Reply{}
		})
	})
	node := s.startNode(t)
	first := node.deliver(like("1"), h.Inbox(0, "/inbox"))
	only := node.deliver(like("1"), h.Inbox(0, "/inbox"), `,"priority":"high"`)
	both := node.accept(submission{activity: like("1"), inboxes: h.urls()})
	if only.Accepted != 0 || only.Duplicates != 1 || both.Accepted != 1 || both.Duplicates != 1 {
		t.Errorf("accepted %+v and %+v", only, both)
	}
	healed.Store(true)
	for _, a := range []acceptedView{first, only, both} {
		if got := node.settled(a); got.Delivered != a.Accepted || got.Total != a.Accepted {
			t.Errorf("counts %+v of %+v", got, a)
		}
	}
	if got := node.settled(node.deliver(like("1"), h.Inbox(0, "/inbox"), `,"priority":"low"`)); got.Delivered != 1 {
		t.Errorf("an activity that was delivered can't be sent again: %+v", got)
	}
}

func TestCancel(t *testing.T) { onBothStores(t, testCancel) }

func testCancel(t *testing.T, s store) {
	var healed atomic.Bool
	h := startHosts(t, 2, func(i int) testinbox.Options {
		return scripted(func(testinbox.Request) testinbox.Reply {
			if i == 0 && !healed.Load() {
				return testinbox.Reply{Status: http.StatusFound}
			}
			return testinbox.Reply{}
		})
	})
	node := s.startNode(t)
	cancelled := node.accept(submission{activity: like("cancelled"), inboxes: h.urls()})
	stays := node.deliver(like("stays"), h.Inbox(0, "/inbox"))
	harness.Eventually(t, "one of two is delivered", func() bool { return node.activity(cancelled).Counts.Delivered == 1 && attempted(node, cancelled) == 1 })
	want := countsView{Total: 2, Delivered: 1, Cancelled: 1}
	for range 2 { // the second time there is nothing left to cancel
		if got := read[activityView](node, http.StatusOK, node.Call(http.MethodDelete, cancelled.URL, "")); got.Counts != want || got.State != "cancelled" {
			t.Errorf("cancelled %+v", got)
		}
	}
	sent := requestsOf(h.inboxes[0], "cancelled")
	healed.Store(true)
	node.settled(stays)
	node.settled(node.deliver(like("later"), h.Inbox(0, "/inbox")))
	// One attempt may have been on its way.
	if got := requestsOf(h.inboxes[0], "cancelled"); got > sent+1 {
		t.Errorf("%d requests after it was cancelled", got-sent)
	}
	if got := node.activity(cancelled); got.Counts != want || len(node.deliveries(cancelled)) != 0 {
		t.Errorf("activity %+v", got)
	}
	if got := node.host(h.Host(0)); got.Pending != 0 {
		t.Errorf("host %+v", got)
	}
}

func requestsOf(in *testinbox.Inbox, activity string) (n int) {
	for _, r := range in.Received() {
		if lastPart(r.ActivityID) == activity {
			n++
		}
	}
	return n
}

// TestMissingKeyParks checks that a delivery that waits for a key is tried when the key is back, counts against no host, and
// is a dead letter if the key never comes.
func TestMissingKeyParks(t *testing.T) { onBothStores(t, testMissingKeyParks) }

func testMissingKeyParks(t *testing.T, s store) {
	const second = "https://app.example/users/bob#main-key"
	var removed atomic.Bool
	h := startHost(t, testinbox.Options{Unsigned: true, Script: func(testinbox.Request) testinbox.Reply {
		if !removed.Load() {
			return testinbox.Reply{Status: http.StatusFound}
		}
		return testinbox.Reply{}
	}})
	node := s.startNode(t)
	node.putKey(second)
	waits := node.deliver(like("waits"), h.Inbox(0, "/inbox"), `,"key_id":`, harness.JSON(second))
	never := node.deliver(like("never"), h.Inbox(0, "/inbox"), `,"expires_in":"6s","key_id":`, harness.JSON(second))
	harness.Eventually(t, "both fail", func() bool { return attempted(node, waits)+attempted(node, never) == 2 })
	if a := node.Call(http.MethodDelete, "/v1/keys?key_id="+url.QueryEscape(second), ""); a.Status != http.StatusNoContent {
		t.Fatalf("delete key: %d %s", a.Status, a.Body)
	}
	harness.Eventually(t, "both find the key missing", func() bool {
		return node.deliveries(waits)[0].LastAttempt.Outcome == "key_missing" && node.deliveries(never)[0].LastAttempt.Outcome == "key_missing"
	})
	removed.Store(true)
	parked := node.deliveries(waits)[0]
	node.Restart()
	if got := node.settled(never); got.Dead != 1 {
		t.Errorf("counts %+v", got)
	}
	if got := node.deadLetters(""); len(got) != 1 || got[0].Reason != "key_missing" || lastPart(got[0].ActivityID) != "never" {
		t.Errorf("dead letters %+v", got)
	}
	if sent := requestsOf(h.inboxes[0], "waits"); parked.Attempts != sent {
		t.Errorf("%d requests were made and %d attempts spent", sent, parked.Attempts)
	}
	if got := node.deliveries(waits)[0]; got.Attempts != parked.Attempts || got.State != "pending" || !got.NextAttemptAt.IsZero() {
		t.Errorf("what waits for its key is %+v, was %+v", got, parked)
	}
	node.putKey(second)
	if got := node.settled(waits); got.Delivered != 1 {
		t.Errorf("counts %+v", got)
	}
	if got := node.host(h.Host(0)); got.Breaker.Failures != 0 || got.FailureDays != 0 {
		t.Errorf("host %+v", got)
	}
}

func TestKeys(t *testing.T) { onBothStores(t, testKeys) }

func testKeys(t *testing.T, s store) {
	node := s.startNode(t)
	first := get[page[keyView]](node, "/v1/keys").Items
	if len(first) != 1 || first[0].KeyID != keyID || !strings.HasPrefix(first[0].PublicPEM, "-----BEGIN PUBLIC KEY-----") ||
		first[0].Fingerprint == "" || first[0].Algorithm == "" || time.Since(first[0].CreatedAt).Abs() > time.Hour {
		t.Errorf("keys %+v", first)
	}
	call := harness.JSON(map[string]string{"key_id": "https://app.example/users/carol#main-key", "private_key_pem": privatePEM()})
	for _, status := range []int{http.StatusCreated, http.StatusOK} {
		if a := node.Call(http.MethodPut, "/v1/keys", call); a.Status != status {
			t.Errorf("put key: %d, want %d: %s", a.Status, status, a.Body)
		}
	}
	node.Restart()
	var ids []string
	for query := "limit=1"; query != ""; {
		got := get[page[keyView]](node, "/v1/keys?"+query)
		for _, k := range got.Items {
			ids = append(ids, k.KeyID)
		}
		if query = ""; got.Next != "" {
			query = "limit=1&cursor=" + url.QueryEscape(got.Next)
		}
	}
	if want := []string{keyID, "https://app.example/users/carol#main-key"}; !slices.Equal(ids, want) {
		t.Errorf("keys %v, want %v", ids, want)
	}
	for _, status := range []int{http.StatusNoContent, http.StatusNotFound} {
		if a := node.Call(http.MethodDelete, "/v1/keys?key_id="+url.QueryEscape(keyID), ""); a.Status != status {
			t.Errorf("delete key: %d, want %d: %s", a.Status, status, a.Body)
		}
	}
	if a := node.Call(http.MethodPost, "/v1/activities", submission{activity: like("1"), inboxes: []string{nobody}}.String()); a.Status != http.StatusUnprocessableEntity {
		t.Errorf("an activity for a key that was deleted: %d %s", a.Status, a.Body)
	}
}

// TestListsOfHostsAndDeadLetters checks that lists can be filtered and paged, and that hosts are found in any spelling of
// their names.
func TestListsOfHostsAndDeadLetters(t *testing.T) { onBothStores(t, testListsOfHostsAndDeadLetters) }

func testListsOfHostsAndDeadLetters(t *testing.T, s store) {
	const n = 6
	h := startHosts(t, n, func(i int) testinbox.Options {
		return replies(testinbox.Reply{Status: []int{202, 404, 403, 500, 410, 202}[i]})
	})
	node := s.startNode(t, "--retry-base", "1h")
	a := node.accept(submission{activity: like("all"), inboxes: h.urls()})
	harness.Eventually(t, "all are attempted", func() bool { return node.activity(a).Counts == countsView{Total: n, Pending: 1, Delivered: 2, Dead: 3} })
	listed := func(query string) (names []string) {
		for query != "" {
			got := get[page[hostView]](node, "/v1/hosts?"+query)
			for _, host := range got.Items {
				names = append(names, host.Host)
			}
			base, _, _ := strings.Cut(query, "&cursor=")
			if query = ""; got.Next != "" {
				query = base + "&cursor=" + url.QueryEscape(got.Next)
			}
		}
		return names
	}
	var all []string
	for i := range n {
		all = append(all, h.Host(i))
	}
	slices.Sort(all)
	harness.Eventually(t, "the failure shows", func() bool { return node.host(h.Host(3)).State == "failing" })
	for query, want := range map[string][]string{
		"limit=500": all, "limit=2": all, "state=failing": {h.Host(3)}, "state=open": nil, "q=" + h.Host(1): {h.Host(1)}, "q=no-such-host": nil,
	} {
		if got := listed(query); !slices.Equal(got, want) {
			t.Errorf("hosts?%s: %v, want %v", query, got, want)
		}
	}
	for query, want := range map[string]int{
		"": 3, "reason=gone": 2, "reason=rejected": 1, "reason=expired": 0, "host=" + h.Host(1): 1, "host=" + h.Host(0): 0,
		"since=" + time.Now().Add(time.Hour).UTC().Format(time.RFC3339): 0, "since=2020-01-01T00:00:00Z": 3, "limit=1": 1,
	} {
		if got := node.deadLetters(query); len(got) != want {
			t.Errorf("dead-letters?%s: %+v, want %d", query, got, want)
		}
	}
	for _, d := range node.deadLetters("host=" + h.Host(2)) {
		if d.ID == "" || lastPart(d.ActivityID) != "all" || d.Inbox != h.Inbox(2, "/inbox") || d.LastAttempt.Status != 403 || time.Since(d.DiedAt).Abs() > time.Hour {
			t.Errorf("dead letter %+v", d)
		}
	}
	checkStates(t, node, a)
	for written, want := range map[string]string{"ONE.example": "one.example", "one.example:443": "one.example", "b%C3%BCcher.example": "xn--bcher-kva.example", "%5B2A00::1%5D:8080": "[2a00::1]:8080"} {
		if got := get[hostView](node, "/v1/hosts/"+written); got.Host != want || got.State != "healthy" || got.Scheme != "unknown" {
			t.Errorf("host %s is %+v", written, got)
		}
	}
}

// checkStates compares the lists of an activity's deliveries.
func checkStates(t *testing.T, node *testNode, a acceptedView) {
	t.Helper()
	for query, want := range map[string]int{"": 4, "state=pending": 1, "state=dead": 3, "state=dead&limit=2": 2} {
		got := get[page[deliveryView]](node, fmt.Sprintf("%s/deliveries?%s", a.URL, query))
		if len(got.Items) != want || got.Next != "" != strings.Contains(query, "limit") {
			t.Errorf("deliveries?%s: %+v, want %d", query, got, want)
		}
	}
}
