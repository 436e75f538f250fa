package redisq

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/delivery"
	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

// fleetNode is a node of a benchmark: all of a node but its API, signatures and HTTP. Its hosts are a ledger.
type fleetNode struct {
	number int // in the ledger
	ledger *ledger
	took   time.Duration // that a request takes
	store  *Store
	pool   *delivery.Pool
	stop   context.CancelFunc
	ended  sync.WaitGroup
	left   bool
}

// fleetSettings are those of a node, as their defaults are.
var fleetSettings = struct {
	Options
	breaker.Settings
	delivery.Schedule
}{
	Options{Prefix: "fleet", Limits: queue.Limits{
		Retention: 72 * time.Hour, DeadRetention: 30 * 24 * time.Hour, DeadLetters: 1e6, Lane: 1e6,
		Feed: queue.FeedLimits{Retention: 72 * time.Hour, Cap: 1e6},
	}},
	breaker.Settings{Threshold: 10, CoolOff: time.Minute, CoolOffMax: time.Hour, Window: 8, UnavailableDays: 7},
	delivery.Schedule{Base: 15 * time.Second, MaxAttempts: 17},
}

// openNode opens the store of a node that does not deliver yet.
func openNode(ctx context.Context, o Options, number int, l *ledger, took, lease time.Duration, concurrency int) (*fleetNode, error) {
	store, err := Open(ctx, o)
	if err != nil {
		return nil, err
	}
	n := &fleetNode{number: number, ledger: l, took: took, store: store}
	n.pool = delivery.NewPool(delivery.Options{
		Queue: store, Leases: lockmgr.NewKeeper(store.Leases(lease), lease, o.Log), Signer: n, Client: n,
		Breaker: fleetSettings.Settings, Schedule: fleetSettings.Schedule, Policy: netguard.NewPolicy([]netip.Prefix{}),
		Concurrency: concurrency, AttemptTimeout: 30 * time.Second, ShutdownTimeout: 25 * time.Second,
		UserAgent: "Postrider/bench", Log: o.Log, Metrics: delivery.NewMetrics(prometheus.NewRegistry(), "none"),
	})
	return n, nil
}

// deliver has the node deliver.
func (n *fleetNode) deliver() {
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	n.ended.Go(func() { n.pool.Run(ctx) })
}

// leave stops the node as an operator does.
func (n *fleetNode) leave() error {
	if n.left {
		return nil
	}
	n.left = true
	if n.stop != nil {
		n.stop()
		n.ended.Wait()
	}
	return n.store.Close()
}

// die cuts the node off, so that it neither settles what it has sent, nor releases its leases, nor says that it goes.
func (n *fleetNode) die() {
	n.store.client.Close()
	n.stop()
	n.store.stop()
}

// Sign implements the pool's signer: it reads the key, as a Signer does, and marks the request.
func (n *fleetNode) Sign(ctx context.Context, req *http.Request, p signer.Params) (signer.Scheme, error) {
	if _, err := n.store.Key(ctx, p.KeyID, p.Pin); err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	req.Header.Set("Signature", string(p.Scheme))
	return p.Scheme, nil
}

var errFleetBody = errors.New("this is no request of the benchmark")

// Post implements the pool's client.
func (n *fleetNode) Post(req *http.Request) delivery.Answer {
	host, activity, err := read(req)
	if err != nil {
		return delivery.Answer{Err: err}
	}
	dead := n.ledger.enter(n.number, host)
	defer n.ledger.leave(host)
	if dead {
		return delivery.Answer{Err: fmt.Errorf("dial: %w", syscall.ECONNREFUSED)}
	}
	if n.took > 0 {
		time.Sleep(n.took)
	}
	n.ledger.arrive(n.number, activity, host, time.Now())
	return delivery.Answer{Status: http.StatusAccepted}
}

// fleetHost returns the name of a host, fleetBody the body of an activity.
func fleetHost(host int) string { return fmt.Sprintf("social%05d.example", host) }

func fleetBody(activity, size int) []byte { return fmt.Appendf(nil, "%-*d", size, activity) }

// read returns the host and the activity of a request.
func read(req *http.Request) (host, activity int, err error) {
	name, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Host, "social"), ".")
	start := make([]byte, 16)
	size, _ := io.ReadFull(req.Body, start) // a body may be shorter
	host, err = strconv.Atoi(name)
	if err != nil {
		return 0, 0, errFleetBody
	}
	activity, err = strconv.Atoi(string(bytes.TrimSpace(start[:size])))
	if err != nil {
		return 0, 0, errFleetBody
	}
	return host, activity, nil
}

// fleetLog counts warnings and errors by what they say.
type fleetLog struct {
	slog.Handler
	mu    sync.Mutex
	lines map[string]int // guarded by mu
	text  map[string]string
}

func newFleetLog() *fleetLog {
	return &fleetLog{Handler: slog.DiscardHandler, lines: map[string]int{}, text: map[string]string{}}
}

// Enabled implements slog.Handler.
func (*fleetLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

// WithAttrs implements slog.Handler.
func (l *fleetLog) WithAttrs([]slog.Attr) slog.Handler { return l }

// Handle implements slog.Handler.
func (l *fleetLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "host.breaker_opened" { // one for each dead host
		return nil
	}
	var text strings.Builder
	r.Attrs(func(a slog.Attr) bool {
		_, _ = fmt.Fprintf(&text, " %s", a)
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines[r.Message]++
	l.text[r.Message] = text.String()
	return nil
}

// counts returns how often each warning was logged, with the last of each.
func (l *fleetLog) counts() (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for message, n := range l.lines {
		lines = append(lines, fmt.Sprintf("%d × %s, the last:%s", n, message, l.text[message]))
	}
	return lines
}
