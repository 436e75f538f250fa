package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/internal/testinbox"
)

// The world outside: each host is as far away as its number says, and keeps unused connections as long as it says.
const (
	nearest, farthest     = 20 * time.Millisecond, 200 * time.Millisecond // round trips
	hastiest, mostPatient = 5 * time.Second, 75 * time.Second             // the defaults of Apache and nginx for unused connections
	popularity            = 1.01                                          // the exponent of Zipf's law
	farTogether           = 10                                            // inboxes of one activity
	farPath               = "/far/"                                       // then a number, different for each delivery
)

// linkTo returns the way to a host.
func linkTo(host int) testinbox.Link {
	r := rand.New(rand.NewPCG(1, uint64(host)))
	return testinbox.Link{RTT: between(r, nearest, farthest), Idle: between(r, hastiest, mostPatient)}
}

func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)+1))
}

// farInboxes returns the inboxes of n deliveries to hosts by Zipf's law, numbered from first on. The hosts are the same in
// every call.
func farInboxes(hosts []string, first, n int) []string {
	z := rand.NewZipf(rand.New(rand.NewPCG(2, 2)), popularity, 1, uint64(len(hosts)-1))
	urls := make([]string, n)
	for i := range urls {
		urls[i] = fmt.Sprintf("%s%s%d", hosts[z.Uint64()], farPath, first+i)
	}
	return urls
}

// onTime calls do with 0 to n-1, one call every so often, however long the earlier calls take. It returns the first error
// when all have returned, and does not begin more calls after one.
func onTime(ctx context.Context, n int, every time.Duration, do func(ctx context.Context, i int) error) error {
	began := time.Now()
	all, until := errgroup.WithContext(ctx)
	for i := range n {
		wait(until, time.Until(began.Add(time.Duration(i)*every)))
		if until.Err() != nil {
			break
		}
		all.Go(func() error { return do(until, i) })
	}
	return errors.Join(all.Wait(), ctx.Err())
}

// answers are the times at which the 2xx of far hosts reach their client, by the number of the delivery. It is safe for
// concurrent use.
type answers struct {
	mu sync.Mutex
	at map[int]time.Time // guarded by mu
}

// from returns the handler of a host so far away.
func (s *sink) from(rtt time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.ServeHTTP(w, r)
		number, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, farPath))
		if err != nil {
			return
		}
		s.answers.mu.Lock()
		defer s.answers.mu.Unlock()
		if _, repeated := s.answers.at[number]; !repeated {
			s.answers.at[number] = time.Now().Add(rtt)
		}
	})
}

// span is deliveries by number.
type span struct{ First, N int }

// farCount is what the far hosts saw since the sink began.
type farCount struct {
	Handshakes, Resumed int64
	Answered            []time.Time // of the span that was asked for
}

// far waits until the deliveries of a span have been answered, and returns the counts.
func (s *sink) far(ctx context.Context, of span) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c := farCount{}
	for ; len(c.Answered) < of.N; wait(ctx, 10*time.Millisecond) {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("only the first %d of %d deliveries were answered within %s", len(c.Answered), of.N, patience)
		}
		c.Answered = s.answers.inOrder(of, c.Answered)
	}
	if n := s.forged(); n > 0 {
		return nil, fmt.Errorf("%d bad signatures", n)
	}
	c.Handshakes, c.Resumed = s.fleet.Handshakes()
	return c, nil
}

// inOrder adds to known what follows it without a gap.
func (a *answers) inOrder(of span, known []time.Time) []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(known) < of.N {
		at, ok := a.at[of.First+len(known)]
		if !ok {
			break
		}
		known = append(known, at)
	}
	return known
}

// world delivers at a steady rate to hosts of all sizes that are far away, over TLS, and compares with a bare loop with Go's
// default transport.
func (b *bench) world(ctx context.Context) (f figures, err error) {
	at := b.newLocation()
	w := &world{b: b, load: load{hosts: b.size.hosts, tls: true, far: true, path: plainPath}}
	defer func() { err = errors.Join(err, w.close(), b.clear(ctx, at)) }()
	if err := w.startSink(ctx); err != nil {
		return nil, err
	}
	f = figures{}
	before, err := w.bareFar(ctx, f)
	if err != nil {
		return nil, err
	}
	if err := w.startNodes(ctx, at, b.o.Config.Bench.Nodes); err != nil {
		return nil, err
	}
	return f, w.nodeFar(ctx, before, f)
}

// bareFar measures the bare loop, and returns what the hosts saw of it.
func (w *world) bareFar(ctx context.Context, f figures) (before farCount, err error) {
	n := w.b.size.far
	backend := w.b.sameSigning()
	var r bareResult
	p, err := w.b.start(ctx, "bare", bareSpec{
		Backend: backend, Key: w.b.private, Body: makeActivity("https://bench.example/activities/bare"),
		Inboxes: farInboxes(w.info.Hosts, 0, n), Every: w.b.size.every, CA: w.info.CA,
	}, &r)
	if err != nil {
		return before, err
	}
	if err := p.stop(); err != nil {
		return before, err
	}
	if err := w.sink.call("far", span{}, &before); err != nil {
		return before, err
	}
	f["bare_"+backend+"_cpu_ms"] = r.Usage.CPU * 1000 / float64(n)
	f["bare_lost"] = float64(r.Lost)
	f["bare_p50_ms"] = percentile(r.Latencies, 50)
	f["bare_p99_ms"] = percentile(r.Latencies, 99)
	f["bare_handshakes_per_delivery"] = float64(before.Handshakes) / float64(n)
	f["bare_resumed_percent"] = 100 * float64(before.Resumed) / float64(max(1, before.Handshakes))
	return before, nil
}

// nodeFar measures the node; before is what the hosts saw until now.
func (w *world) nodeFar(ctx context.Context, before farCount, f figures) error {
	n := w.b.size.far
	first, err := w.spent(ctx)
	if err != nil {
		return err
	}
	inboxes := farInboxes(w.info.Hosts, n, n)
	accepted := make([]time.Time, n/farTogether)
	began := time.Now()
	err = onTime(ctx, len(accepted), w.b.size.every, func(ctx context.Context, i int) (err error) {
		activity := makeActivity(fmt.Sprintf("https://bench.example/activities/%d", i))
		to := inboxes[i*farTogether:][:farTogether]
		_, accepted[i], err = w.api(i).submit(ctx, submission(activity, to), len(to))
		return err
	})
	if err != nil {
		return err
	}
	var after farCount
	if err := w.sink.call("far", span{n, n}, &after); err != nil {
		return err
	}
	took := time.Since(began)
	if err := w.api(0).until(ctx, "what arrived is settled", func(s stats) bool { return s.Pending == 0 }); err != nil {
		return err
	}
	last, err := w.spent(ctx)
	if err != nil {
		return err
	}
	latencies := make([]float64, n)
	for i, at := range after.Answered {
		latencies[i] = max(0, millis(at.Sub(accepted[i/farTogether])))
	}
	handshakes := after.Handshakes - before.Handshakes
	f["deliveries"] = float64(n)
	f["deliveries_per_second"] = perSecond(n, took)
	f["node_cpu_ms"] = (last.cpu - first.cpu) * 1000 / float64(n)
	if w.b.redis != nil {
		f["store_cpu_ms"] = (last.store.cpu - first.store.cpu) * 1000 / float64(n)
	}
	f.ratio("cpu_ratio", f["node_cpu_ms"]+f["store_cpu_ms"], f["bare_"+w.b.sameSigning()+"_cpu_ms"])
	f["handshakes_per_delivery"] = float64(handshakes) / float64(n)
	f["resumed_percent"] = 100 * float64(after.Resumed-before.Resumed) / float64(max(1, handshakes))
	f["p50_ms"] = percentile(latencies, 50)
	f["p99_ms"] = percentile(latencies, 99)
	f["peak_mib"] = last.peak
	return nil
}
