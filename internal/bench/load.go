package bench

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// load describes deliveries to measure.
type load struct {
	hosts      int
	activities int // to each host
	bare       int // activities to each host by bare loops; 0 measures none
	path       string
	tls        bool
	warm       bool // connect to every host first, and open the breakers of dead ones
	hanging    int  // the number of more hosts that don't answer
	closed     int  // the number of more hosts that refuse connections
	hasty      bool // short time-outs
	backlog    int  // deliveries pending at the location
	at         *location
	far        bool // hosts are as far away as their links say
}

// world is the processes of one measurement of a load.
type world struct {
	b       *bench
	load    load
	sink    *process
	info    sinkInfo
	nodes   []*process
	apis    []*api // of the nodes
	arrived int
	made    int // activities
}

// deliver measures a load.
func (b *bench) deliver(ctx context.Context, l load) (f figures, err error) {
	l.path = cmp.Or(l.path, plainPath)
	w := &world{b: b, load: l}
	at := b.newLocation()
	if l.at != nil {
		at = *l.at
	}
	defer func() { err = errors.Join(err, w.close(), b.clear(ctx, at)) }()
	if err := w.startSink(ctx); err != nil {
		return nil, err
	}
	f = figures{}
	if l.bare > 0 {
		if err := w.measureBares(ctx, f); err != nil {
			return nil, err
		}
	}
	if err := w.startNodes(ctx, at, b.o.Config.Bench.Nodes); err != nil {
		return nil, err
	}
	if l.warm {
		if err := w.warm(ctx); err != nil {
			return nil, err
		}
	}
	if err := w.measureNode(ctx, f); err != nil {
		return nil, err
	}
	return f, nil
}

func (w *world) close() (err error) {
	for _, p := range append(w.nodes, w.sink) {
		if p != nil {
			err = errors.Join(err, p.stop())
		}
	}
	return err
}

func (w *world) startSink(ctx context.Context) (err error) {
	public, err := x509.MarshalPKIXPublicKey(&w.b.key.PublicKey)
	if err != nil {
		return err
	}
	l := w.load
	w.sink, err = w.b.start(ctx, "sink", sinkSpec{Hosts: l.hosts + l.hanging, Closed: l.closed, TLS: l.tls, Far: l.far, PublicKey: public}, &w.info)
	return err
}

// startNodes starts nodes that share a store, and waits until they know of each other.
func (w *world) startNodes(ctx context.Context, at location, n int) error {
	for range n {
		if err := w.startNode(ctx, at); err != nil {
			return err
		}
	}
	if n > 1 {
		wait(ctx, acquaintance)
	}
	return w.apis[0].putKey(ctx, w.b.privatePEM())
}

// acquaintance is how long nodes take at most to know of each other.
const acquaintance = 3 * time.Second

func (w *world) startNode(ctx context.Context, at location) error {
	spec := nodeSpec{Location: at, Hasty: w.load.hasty}
	if w.load.tls {
		spec.CAFile = filepath.Join(w.b.dir, "ca.pem")
		if err := os.WriteFile(spec.CAFile, w.info.CA, 0o600); err != nil {
			return err
		}
	}
	var address string
	p, err := w.b.start(ctx, "node", spec, &address)
	if err != nil {
		return err
	}
	w.nodes = append(w.nodes, p)
	w.apis = append(w.apis, newAPI(address))
	return nil
}

// healthy returns the inboxes of hosts that answer.
func (w *world) healthy() []string { return inboxes(w.info.Hosts[:w.load.hosts], w.load.path) }

// all returns the inboxes of all hosts.
func (w *world) all() []string {
	return append(w.healthy(), w.dead()...)
}

func (w *world) dead() []string {
	return append(inboxes(w.info.Hosts[w.load.hosts:], hangPath), inboxes(w.info.Closed, plainPath)...)
}

func inboxes(hosts []string, path string) []string {
	urls := make([]string, len(hosts))
	for i, h := range hosts {
		urls[i] = h + path
	}
	return urls
}

// measureBares measures bare loops that post to the sink.
func (w *world) measureBares(ctx context.Context, f figures) error {
	for _, backend := range w.b.bares {
		spec := bareSpec{
			Backend: backend, Key: w.b.private, Body: makeActivity("https://bench.example/activities/bare"), Inboxes: w.healthy(),
			Times: w.load.bare, Workers: min(w.load.hosts, 256), CA: w.info.CA,
		}
		var r bareResult
		p, err := w.b.start(ctx, "bare", spec, &r)
		if err != nil {
			return err
		}
		if err := p.stop(); err != nil {
			return err
		}
		if err := w.await(r.Posted); err != nil {
			return err
		}
		f["bare_"+backend+"_cpu_ms"] = r.Usage.CPU * 1000 / float64(r.Posted)
		f["bare_"+backend+"_per_second"] = perSecond(r.Posted, r.Took)
		f["bare_connections"] = float64(r.Connections)
	}
	return nil
}

// await waits until n more requests have arrived. It returns an error if more arrived or a signature was bad.
func (w *world) await(n int) error {
	w.arrived += n
	var c sinkCount
	if err := w.sink.call("count", w.arrived, &c); err != nil {
		return err
	}
	if c.Arrived != w.arrived || c.Forged > 0 {
		return fmt.Errorf("of %d deliveries %d arrived, and of those looked at %d had a bad signature", w.arrived, c.Arrived, c.Forged)
	}
	return nil
}

// send submits activities, and waits until they have arrived at the healthy hosts.
func (w *world) send(ctx context.Context, activities int, to []string) error {
	for range activities {
		if err := w.submit(ctx, to); err != nil {
			return err
		}
	}
	return w.await(activities * w.load.hosts)
}

// api returns the API of the node that gets the n-th call.
func (w *world) api(n int) *api { return w.apis[n%len(w.apis)] }

// submit submits one more activity.
func (w *world) submit(ctx context.Context, to []string) error {
	w.made++
	activity := makeActivity(fmt.Sprintf("https://bench.example/activities/%d", w.made))
	_, _, err := w.api(w.made).submit(ctx, submission(activity, to), len(to))
	return err
}

// warm makes the node connect to every host and open the breakers of dead ones.
func (w *world) warm(ctx context.Context) error {
	if err := w.send(ctx, 1, w.healthy()); err != nil {
		return err
	}
	dead := w.dead()
	if len(dead) == 0 {
		return nil
	}
	for range hastyFailures {
		if err := w.submit(ctx, dead); err != nil {
			return err
		}
	}
	return w.apis[0].until(ctx, "the breakers of dead hosts are open", func(s stats) bool { return s.Hosts["open"] >= len(dead) })
}

// spent is the resources used so far.
type spent struct {
	cpu         float64 // of the nodes, in s
	peak        float64 // of the memory of the node with the highest one, in MiB
	store       served
	connections float64
}

func (w *world) spent(ctx context.Context) (s spent, err error) {
	for i, p := range w.nodes {
		used, err := p.usage()
		if err != nil {
			return s, err
		}
		connections, err := w.apis[i].connections(ctx)
		if err != nil {
			return s, err
		}
		s.cpu += used.CPU
		s.peak = max(s.peak, used.Peak)
		s.connections += connections
	}
	s.store, err = w.b.redis.served(ctx)
	return s, err
}

// measureNode measures the node while it delivers the load.
func (w *world) measureNode(ctx context.Context, f figures) error {
	before, err := w.spent(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := w.send(ctx, w.load.activities, w.all()); err != nil {
		return err
	}
	took := time.Since(began)
	n := w.load.activities * w.load.hosts
	left := w.load.backlog + (w.made-1)*len(w.dead()) // all but the first went to the dead too
	err = w.apis[0].until(ctx, "what arrived is settled", func(s stats) bool { return s.Pending <= left })
	if err != nil {
		return err
	}
	after, err := w.spent(ctx)
	if err != nil {
		return err
	}
	f["deliveries"] = float64(n)
	f["deliveries_per_second"] = perSecond(n, took)
	f["node_cpu_ms"] = (after.cpu - before.cpu) * 1000 / float64(n)
	f["connections"] = after.connections
	if w.b.redis != nil {
		f["store_cpu_ms"] = (after.store.cpu - before.store.cpu) * 1000 / float64(n)
		f["store_scripts"] = (after.store.scripts - before.store.scripts) / float64(n)
		f["store_bytes_in"] = (after.store.in - before.store.in) / float64(n)
		f["store_bytes_out"] = (after.store.out - before.store.out) / float64(n)
	}
	f.ratio("cpu_ratio", f["node_cpu_ms"]+f["store_cpu_ms"], f["bare_"+w.b.sameSigning()+"_cpu_ms"])
	if err := w.pace(ctx, f); err != nil {
		return err
	}
	err = w.apis[0].until(ctx, "what arrived is settled", func(s stats) bool { return s.Pending <= left })
	if err != nil {
		return err
	}
	last, err := w.spent(ctx)
	f["peak_mib"] = last.peak
	if w.b.redis != nil {
		f["store_paced_scripts"] = (last.store.scripts - after.store.scripts) / float64(w.b.size.paced)
	}
	return err
}

// pace measures how long single activities take from their 202 to the inbox on idle nodes.
func (w *world) pace(ctx context.Context, f figures) error {
	accepted := map[string]time.Time{}
	for i := range w.b.size.paced {
		id := fmt.Sprintf("https://bench.example/activities/paced/%d", i)
		inbox := w.info.Hosts[i*w.load.hosts/w.b.size.paced] + pacedPath
		_, at, err := w.api(i).submit(ctx, submission(makeActivity(id), []string{inbox}), 1)
		if err != nil {
			return err
		}
		accepted[id] = at
		wait(ctx, 10*time.Millisecond)
	}
	var arrived map[string]time.Time
	if err := w.sink.call("arrivals", w.b.size.paced, &arrived); err != nil {
		return err
	}
	var latencies []float64
	for id, at := range arrived {
		latencies = append(latencies, max(0, millis(at.Sub(accepted[id])))) // it may be there before the 202 is
	}
	f["p50_ms"] = percentile(latencies, 50)
	f["p99_ms"] = percentile(latencies, 99)
	return nil
}
