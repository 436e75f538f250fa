package delivery

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/embedded"
	"github.com/postrider/postrider/signer"
)

const (
	testKey    = "https://app.example/users/alice#main-key"
	edwardsKey = "https://app.example/users/ed#main-key" // Ed25519
)

// rig is a pool on an embedded store, in virtual time, whose requests go to a function instead of the network.
type rig struct {
	t      *testing.T
	store  queue.Queue
	pool   *Pool
	answer func(r *http.Request) Answer // may sleep; once the pool runs, change it by answers
	stop   context.CancelFunc
	ended  sync.WaitGroup

	mu       sync.Mutex
	requests []request
	inFlight map[string]int
	most     map[string]int
}

// request is one request that was made.
type request struct {
	at              time.Time
	host, url, body string
	scheme          signer.Scheme
}

// pooled runs f in a bubble of virtual time with a rig whose pool runs. change may alter the pool's options.
func pooled(t *testing.T, answer func(*http.Request) Answer, change func(*Options), f func(*rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		leases := lockmgr.NewLocal(30 * time.Second)
		store, err := embedded.Open(t.TempDir(), embedded.Options{Prompt: true, Leases: leases})
		if err != nil {
			t.Fatal(err)
		}
		r := &rig{t: t, store: store, answer: answer, inFlight: map[string]int{}, most: map[string]int{}}
		o := Options{
			Queue: store, Leases: lockmgr.NewKeeper(leases, 30*time.Second, slog.New(slog.DiscardHandler)),
			Signer: keySigner{store}, Client: r,
			Breaker: breaker.Settings{
				Threshold: 10, CoolOff: time.Minute, CoolOffMax: time.Hour, Window: 8, UnavailableDays: 7,
			},
			Policy: netguard.NewPolicy([]netip.Prefix{}), Concurrency: 64,
			Schedule:       Schedule{Base: 15 * time.Second, MaxAttempts: 17},
			AttemptTimeout: 30 * time.Second, ShutdownTimeout: 25 * time.Second,
			UserAgent: "Postrider/test", Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry(), "none"),
		}
		if change != nil {
			change(&o)
		}
		r.pool = NewPool(o)
		r.putKey()
		r.start()
		f(r)
		r.halt()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (r *rig) start() {
	ctx, cancel := context.WithCancel(r.t.Context())
	r.stop = cancel
	r.ended.Go(func() { r.pool.Run(ctx) })
}

// halt stops the pool and waits until it has.
func (r *rig) halt() {
	r.stop()
	r.ended.Wait()
}

func (r *rig) putKey() {
	r.t.Helper()
	for _, id := range []string{testKey, edwardsKey} {
		if _, err := r.store.PutKey(r.t.Context(), queue.Key{ID: id, Sealed: []byte("sealed")}); err != nil {
			r.t.Fatal(err)
		}
	}
}

// keySigner marks requests instead of signing them, by the scheme that a Signer would use. It takes no time.
type keySigner struct{ keys queue.Keys }

func (s keySigner) Sign(ctx context.Context, req *http.Request, p signer.Params) (signer.Scheme, error) {
	if _, err := s.keys.Key(ctx, p.KeyID, p.Pin); err != nil {
		return "", fmt.Errorf("sign: %w", signer.ErrKeyMissing)
	}
	if p.KeyID == edwardsKey {
		p.Scheme = signer.RFC9421
	}
	req.Header.Set("Test-Scheme", string(p.Scheme))
	return p.Scheme, nil
}

// Post implements poster.
func (r *rig) Post(req *http.Request) Answer {
	body := make([]byte, req.ContentLength)
	_, _ = req.Body.Read(body)
	r.mu.Lock()
	r.requests = append(r.requests, request{time.Now(), req.URL.Host, req.URL.String(), string(body), signer.Scheme(req.Header.Get("Test-Scheme"))})
	r.inFlight[req.URL.Host]++
	r.most[req.URL.Host] = max(r.most[req.URL.Host], r.inFlight[req.URL.Host])
	answer := r.answer
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.inFlight[req.URL.Host]--
	}()
	return answer(req)
}

// answers changes what hosts answer from now on.
func (r *rig) answers(answer func(*http.Request) Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// lasting sleeps as a request of some time does, and reports whether it was not cut off.
func lasting(req *http.Request, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-req.Context().Done():
		return false
	}
}

// peak returns how many requests were in flight to a host at once.
func (r *rig) peak(host string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.most[host]
}

// all returns the requests made.
func (r *rig) all() []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// to returns the requests made to a host.
func (r *rig) to(host string) []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	var rs []request
	for _, q := range r.requests {
		if q.host == host {
			rs = append(rs, q)
		}
	}
	return rs
}

// submit enqueues an activity to one inbox on each of the hosts. Its body is its URI.
func (r *rig) submit(uri, key string, p queue.Priority, ttl time.Duration, hosts ...string) string {
	r.t.Helper()
	return r.submitBy(testKey, uri, key, p, ttl, hosts...)
}

// submitBy does so for an activity signed by some key.
func (r *rig) submitBy(keyID, uri, key string, p queue.Priority, ttl time.Duration, hosts ...string) string {
	r.t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		r.t.Fatal(err)
	}
	s := &queue.Submission{
		Activity: queue.Activity{ID: id.String(), URI: uri, Type: "Create", KeyID: keyID, OrderingKey: key, Priority: p, Body: []byte(uri)},
		TTL:      ttl,
		Idempotency: queue.Idempotency{
			Key: sha256.Sum256([]byte(uri)), Fingerprint: sha256.Sum256([]byte(uri)),
		},
	}
	for _, h := range hosts {
		s.Recipients = append(s.Recipients, queue.Recipient{Inbox: "https://" + h + "/inbox", Host: h})
	}
	receipt, err := r.store.Enqueue(r.t.Context(), s)
	if err != nil {
		r.t.Fatal(err)
	}
	if receipt.Accepted != len(hosts) {
		r.t.Fatalf("accepted %d of %d", receipt.Accepted, len(hosts))
	}
	return receipt.ID
}

// backlog submits n activities, each with an ordering key of its own, to each of the hosts.
func (r *rig) backlog(n int, hosts ...string) {
	r.t.Helper()
	for i := range n {
		uri := fmt.Sprintf("https://app.example/%s/%d", hosts[0], i)
		r.submit(uri, uri, queue.Normal, 72*time.Hour, hosts...)
	}
}

// numbered returns the names of n hosts that begin with a prefix.
func numbered(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s%d.example", prefix, i)
	}
	return names
}

func (r *rig) host(name string) queue.HostStatus {
	r.t.Helper()
	h, err := r.store.Host(r.t.Context(), name)
	if err != nil {
		r.t.Fatal(err)
	}
	return h
}

func (r *rig) counts(id string) queue.Counts {
	r.t.Helper()
	a, err := r.store.Activity(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return a.Counts
}

// delivery returns the one delivery that is still kept of an activity.
func (r *rig) delivery(id string) queue.DeliveryStatus {
	r.t.Helper()
	l, err := r.store.Deliveries(r.t.Context(), id, "", queue.Page{Limit: 10})
	if err != nil {
		r.t.Fatal(err)
	}
	if len(l.Items) != 1 {
		r.t.Fatalf("%d deliveries are kept, want 1", len(l.Items))
	}
	return l.Items[0]
}
