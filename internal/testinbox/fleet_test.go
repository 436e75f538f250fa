package testinbox

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"runtime"
	"sync"
	"testing"
)

func TestFleet(t *testing.T) {
	const n = 300 // more than the last byte of an address can count
	inboxes := make([]*Inbox, n)
	fleet, err := StartFleet(n, func(i int) http.Handler {
		inboxes[i] = New(Options{Unsigned: true})
		return inboxes[i]
	})
	if err != nil {
		t.Fatal(err)
	}
	hosts := map[string]bool{}
	client := &http.Client{Transport: &http.Transport{}}
	for i := range n {
		hosts[fleet.Host(i)] = true
		if i%37 != 0 && i != n-1 {
			continue
		}
		status, _, err := post(t.Context(), client, fleet.Inbox(i, "/inbox"), "{}")
		if status != http.StatusAccepted || err != nil {
			t.Errorf("host %d: %d, %v", i, status, err)
		}
		if got := inboxes[i].Received(); len(got) != 1 || got[0].Host != fleet.Host(i) || got[0].Path != "/inbox" {
			t.Errorf("host %d got %+v", i, got)
		}
	}
	if len(hosts) != n {
		t.Errorf("%d hosts have %d names", n, len(hosts))
	}
	client.CloseIdleConnections()
	if err := fleet.Close(); err != nil {
		t.Error(err)
	}
	if status, _, err := post(t.Context(), client, fleet.Inbox(0, "/inbox"), "{}"); err == nil {
		t.Errorf("a closed fleet answered %d", status)
	}
}

func TestFleetHasAddressesOfItsOwn(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux answers on all of 127.0.0.0/8")
	}
	fleet, err := StartFleet(2, func(int) http.Handler { return http.NotFoundHandler() })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = fleet.Close() }()
	if a, b := fleet.Host(0)[:8], fleet.Host(1)[:8]; a != "127.1.0." || b != "127.1.0." || fleet.Host(0)[8] == fleet.Host(1)[8] {
		t.Errorf("hosts %s and %s", fleet.Host(0), fleet.Host(1))
	}
}

func TestTLSFleet(t *testing.T) {
	k := newKeyring(t)
	in := New(Options{Keys: k.public})
	fleet, err := StartTLSFleet(2, func(int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor != 2 {
				t.Errorf("spoken to by %s", r.Proto)
			}
			in.ServeHTTP(w, r)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = fleet.Close() }()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(fleet.CA()) {
		t.Fatal("no certificate in CA")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	for i := range 2 {
		status, _, err := post(t.Context(), &http.Client{Transport: transport}, fleet.Inbox(i, "/"), "{}")
		if status != http.StatusUnauthorized || err != nil {
			t.Errorf("host %d: %d, %v", i, status, err)
		}
	}
	if _, _, err := post(t.Context(), &http.Client{Transport: &http.Transport{}}, fleet.Inbox(0, "/"), "{}"); err == nil {
		t.Error("a client without the authority trusts the fleet")
	}
}

func TestFleetCloseEndsHanging(t *testing.T) {
	in := New(Options{Unsigned: true, Script: func(Request) Reply { return Reply{Hang: true} }})
	fleet, err := StartFleet(1, func(int) http.Handler { return in })
	if err != nil {
		t.Fatal(err)
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if status, _, err := post(context.Background(), &http.Client{Transport: &http.Transport{}}, fleet.Inbox(0, "/"), "{}"); err == nil {
			t.Errorf("hang answered %d", status)
		}
	})
	if err := in.Wait(t.Context(), 1); err != nil {
		t.Error(err)
	}
	if err := fleet.Close(); err != nil {
		t.Error(err)
	}
	waiting.Wait()
}
