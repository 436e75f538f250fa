package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/testinbox"
)

// hosts are remote hosts, each with an inbox that verifies its requests.
type hosts struct {
	*testinbox.Fleet
	inboxes []*testinbox.Inbox
}

// startHosts starts n hosts. options(i) are those of the i-th.
func startHosts(t *testing.T, n int, options func(i int) testinbox.Options) *hosts {
	t.Helper()
	return startHostsBehind(t, n, options, func(h http.Handler) http.Handler { return h })
}

// startHostsBehind is startHosts with something before each host's inbox.
func startHostsBehind(t *testing.T, n int, options func(i int) testinbox.Options, before func(http.Handler) http.Handler) *hosts {
	t.Helper()
	h := &hosts{}
	for i := range n {
		o := options(i)
		if o.Keys == nil {
			o.Keys = publicKey
		}
		h.inboxes = append(h.inboxes, testinbox.New(o))
	}
	h.Fleet = startFleet(t, n, func(i int) http.Handler { return before(h.inboxes[i]) })
	return h
}

func startFleet(t *testing.T, n int, handler func(i int) http.Handler) *testinbox.Fleet {
	t.Helper()
	fleet, err := testinbox.StartFleet(n, handler)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := fleet.Close(); err != nil {
			t.Error(err)
		}
	})
	return fleet
}

// startHost starts one host.
func startHost(t *testing.T, o testinbox.Options) *hosts {
	t.Helper()
	return startHosts(t, 1, func(int) testinbox.Options { return o })
}

// scripted is an inbox that follows a script.
func scripted(script func(testinbox.Request) testinbox.Reply) testinbox.Options {
	return testinbox.Options{Script: script}
}

// replies is an inbox that always answers the same.
func replies(r testinbox.Reply) testinbox.Options {
	return scripted(func(testinbox.Request) testinbox.Reply { return r })
}

// fine is an inbox that accepts everything.
func fine(int) testinbox.Options { return testinbox.Options{} }

// urls are the inboxes of all hosts.
func (h *hosts) urls() []string {
	urls := make([]string, len(h.inboxes))
	for i := range urls {
		urls[i] = h.Inbox(i, "/inbox")
	}
	return urls
}

// count is how many requests came to all hosts.
func (h *hosts) count() (n int) {
	for _, in := range h.inboxes {
		n += in.Count()
	}
	return n
}

// nobody is an inbox at a closed port.
const nobody = "http://127.99.99.99:9/inbox"

// lastPart returns the text after the last slash, for activities named by number.
func lastPart(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }
