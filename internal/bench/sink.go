package bench

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/internal/testinbox"
)

const (
	keyID = "https://bench.example/users/alice#main-key"

	sampleEvery = 20                     // the signature of each 20th request is verified
	slowness    = 100 * time.Millisecond // of inboxes under /slow/
	patience    = 90 * time.Second       // the time-out of all waits
)

// The paths of inboxes, by behaviour.
const (
	plainPath = "/inbox"
	slowPath  = "/slow/inbox"
	hangPath  = "/hang/inbox"
	pacedPath = "/paced/inbox"
)

// sinkSpec says which hosts a sink has.
type sinkSpec struct {
	Hosts, Closed int // the numbers of hosts that listen, and of closed ports
	TLS           bool
	Far           bool   // over links as in the world outside; with TLS only
	PublicKey     []byte // in PKIX form
}

// sinkInfo is the addresses of a sink's hosts.
type sinkInfo struct {
	Hosts, Closed []string // URLs without a path
	CA            []byte
}

// sinkCount counts the requests to a sink.
type sinkCount struct {
	Arrived          int // requests answered with 2xx, but for paced ones
	Verified, Forged int // sampled requests with a good and with a bad signature
}

// sink is all the inboxes of a measurement. It answers as fast as it can, and verifies signatures by sampling.
type sink struct {
	fleet           *testinbox.Fleet
	seen            atomic.Int64
	arrived         atomic.Int64
	verified        atomic.Int64
	sampled, pacing *testinbox.Inbox
	answers         answers // of far hosts
}

func (s *sink) commands() commands {
	return commands{
		"start": command(s.start), "count": command(s.count), "arrivals": command(s.arrivals), "far": command(s.far),
	}
}

func (s *sink) start(_ context.Context, spec sinkSpec) (any, error) {
	key, err := x509.ParsePKIXPublicKey(spec.PublicKey)
	if err != nil {
		return nil, err
	}
	keys := func(id string) crypto.PublicKey {
		if id != keyID {
			return nil
		}
		return key
	}
	s.pacing = testinbox.New(testinbox.Options{Keys: keys})
	s.sampled = testinbox.New(testinbox.Options{Keys: keys, Keep: 1, Script: s.genuine})
	if s.fleet, err = s.startFleet(spec); err != nil {
		return nil, err
	}
	info := sinkInfo{CA: s.fleet.CA()}
	for i := range spec.Hosts {
		info.Hosts = append(info.Hosts, s.fleet.Inbox(i, ""))
	}
	info.Closed, err = closedPorts(spec.Closed)
	return info, err
}

func (s *sink) startFleet(spec sinkSpec) (*testinbox.Fleet, error) {
	same := func(int) http.Handler { return s }
	switch {
	case spec.Far:
		s.answers.at = map[int]time.Time{}
		return testinbox.StartFarFleet(spec.Hosts, func(i int) http.Handler { return s.from(linkTo(i).RTT) }, linkTo)
	case spec.TLS:
		return testinbox.StartTLSFleet(spec.Hosts, same)
	}
	return testinbox.StartFleet(spec.Hosts, same)
}

// closedPorts returns addresses that refuse connections, as URLs.
func closedPorts(n int) (urls []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // at the end, so that no two are the same
		urls = append(urls, "http://"+l.Addr().String())
	}
	return urls, nil
}

// genuine is the script for sampled requests. It is called only for those with a valid signature.
func (s *sink) genuine(r testinbox.Request) testinbox.Reply {
	s.verified.Add(1)
	s.arrived.Add(1)
	if strings.HasPrefix(r.Path, slowPath) {
		return testinbox.Reply{Delay: slowness}
	}
	return testinbox.Reply{}
}

// ServeHTTP implements http.Handler.
func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == pacedPath:
		s.pacing.ServeHTTP(w, r)
	case r.URL.Path == hangPath:
		<-r.Context().Done()
	case s.seen.Add(1)%sampleEvery == 0:
		s.sampled.ServeHTTP(w, r)
	default:
		s.take(w, r)
	}
}

// take accepts a request without a check.
func (s *sink) take(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return // the client has gone
	}
	if r.URL.Path == slowPath {
		wait(r.Context(), slowness)
	}
	s.arrived.Add(1)
	w.WriteHeader(http.StatusAccepted)
}

// wait waits for d or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// count waits until a number of requests have arrived, and returns the counts.
func (s *sink) count(ctx context.Context, atLeast int) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for int(s.arrived.Load()) < atLeast && s.forged() == 0 && ctx.Err() == nil {
		wait(ctx, time.Millisecond)
	}
	return sinkCount{Arrived: int(s.arrived.Load()), Verified: int(s.verified.Load()), Forged: s.forged()}, nil
}

func (s *sink) forged() int {
	// A request that is being verified counts as neither. The order of these calls never counts one too many.
	checked := s.sampled.Count()
	checked -= s.sampled.InFlight()
	return max(0, checked-int(s.verified.Load()))
}

// arrivals waits until n paced requests have arrived, and returns their times by the activity's id.
func (s *sink) arrivals(ctx context.Context, n int) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := s.pacing.Wait(ctx, n); err != nil {
		return nil, err
	}
	at := map[string]time.Time{}
	for _, r := range s.pacing.Received() {
		if !r.Valid {
			return nil, fmt.Errorf("a bad signature: %s", r.Reason)
		}
		if _, repeated := at[r.ActivityID]; !repeated {
			at[r.ActivityID] = r.At
		}
	}
	if len(at) < n {
		return nil, errors.New("an activity came twice")
	}
	return at, nil
}
