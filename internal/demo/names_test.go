package demo

import (
	"context"
	"net"
	"slices"
	"testing"
)

// TestNames: each host has a name of its own that says what it is, and the name server knows it.
func TestNames(t *testing.T) {
	w, err := newWorld(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", w.names.address())
	}}
	seen := map[string]bool{}
	for _, h := range w.hosts {
		name, port, err := net.SplitHostPort(h.name)
		if err != nil || port == "" || seen[name] {
			t.Errorf("%s: %v", h.name, err)
		}
		seen[name] = true
		found, err := resolver.LookupHost(t.Context(), name)
		if err != nil || len(found) != 1 || !net.ParseIP(found[0]).IsLoopback() {
			t.Errorf("%s is at %v, %v", name, found, err)
		}
	}
	for _, want := range []string{"healthy-1.demo", "healthy-20.demo", "slow-3.demo", "failing-at-first-1.demo", "rfc9421-only.demo", "gone.demo", "dead.demo"} {
		if !seen[want] {
			t.Errorf("there is no %s", want)
		}
	}
	if found, err := resolver.LookupHost(t.Context(), "other.example."); err == nil || slices.Contains(found, "127.0.0.1") {
		t.Errorf("other.example is at %v, %v", found, err)
	}
}
