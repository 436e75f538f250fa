package relay

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// call is what a test's node reads of a line.
type call struct {
	Repeats     string `json:"idempotency_key"`
	OrderingKey string `json:"ordering_key"`
	Number      int    // what a test wrote
	Fate        string // "refused" or "", as a test wrote it
}

// node accepts batches as a node does, as far as a relay can tell, and remembers what it accepted.
type node struct {
	*httptest.Server

	mu       sync.Mutex
	accepted []call
	known    map[string]bool
	calls    int
	replayed int
	token    string
	// trouble is asked before a line is accepted: "busy" answers 503 to it and to all later ones of its key, "cut" ends the
	// connection before it is accepted, and "deaf" after that.
	trouble func(c call) string
	// whole, unless nil, may answer a batch as a whole, and reports whether it did.
	whole func(w http.ResponseWriter) bool
}

func startNode(t *testing.T) *node {
	t.Helper()
	n := &node{known: map[string]bool{}, trouble: func(call) string { return "" }}
	n.Server = httptest.NewServer(n)
	t.Cleanup(n.Close)
	return n
}

// ServeHTTP implements http.Handler.
func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.URL.Path != "/v1/activities/batch" || r.Header.Get("Content-Type") != "application/x-ndjson" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	n.mu.Lock()
	n.calls++
	n.token = r.Header.Get("Authorization")
	whole := n.whole
	n.mu.Unlock()
	if whole != nil && whole(w) {
		return
	}
	answers := bufio.NewWriter(w)
	busy := map[string]bool{}
	for line := range strings.Lines(string(body)) {
		n.line(answers, line, busy)
	}
	_ = answers.Flush()
}

func (n *node) line(w *bufio.Writer, line string, busy map[string]bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var c call
	if err := json.Unmarshal([]byte(line), &c); err != nil || c.Repeats == "" {
		fmt.Fprintln(w, `{"status":400,"detail":"malformed"}`)
		return
	}
	trouble := n.trouble(c)
	switch {
	case n.known[c.Repeats]:
		n.replayed++
		fmt.Fprintln(w, `{"status":202,"replayed":true,"rejected":[]}`)
	case c.Fate == "refused":
		fmt.Fprintln(w, `{"status":422,"detail":"the call is not valid","errors":[{"code":"unknown_key"}]}`)
	case trouble == "cut":
		_ = w.Flush()
		panic(http.ErrAbortHandler)
	case trouble == "busy" || busy[c.OrderingKey]:
		busy[c.OrderingKey] = true
		fmt.Fprintln(w, `{"status":503,"detail":"the store is away","retry_after":0}`)
	default:
		n.known[c.Repeats] = true
		n.accepted = append(n.accepted, c)
		if trouble == "deaf" {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprintln(w, `{"status":202,"rejected":[{"inbox":"x"}]}`)
	}
}

func (n *node) setWhole(whole func(w http.ResponseWriter) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.whole = whole
}

// numbers returns the numbers accepted, by ordering key, in the order in which they were.
func (n *node) numbers() map[string][]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := map[string][]int{}
	for _, c := range n.accepted {
		list[c.OrderingKey] = append(list[c.OrderingKey], c.Number)
	}
	return list
}

func (n *node) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.accepted)
}

// wantOrder checks that the numbers of each key were accepted in order, and returns all of them, sorted.
func (n *node) wantOrder(t *testing.T) (all []int) {
	t.Helper()
	lists := n.numbers()
	for _, key := range slices.Sorted(maps.Keys(lists)) {
		if !slices.IsSorted(lists[key]) {
			t.Errorf("key %q was handed over as %v", key, lists[key])
		}
		all = append(all, lists[key]...)
	}
	slices.Sort(all)
	return all
}
