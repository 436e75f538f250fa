package demo

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/postrider/postrider/internal/testinbox"
	"github.com/postrider/postrider/kits/go/client"
)

// kind is how a host behaves.
type kind struct {
	name    string
	domain  string // of its host; those of several hosts are numbered
	hosts   int
	healthy bool // its inboxes must get everything
	options testinbox.Options
}

const (
	inboxesPerHost = 2
	recoversAfter  = 3 * time.Second

	deadKind    = "dead"
	deadAddress = "127.99.99.99:9" // nobody listens there
)

// kinds returns the kinds of the demo's hosts, thirty hosts in all. began returns the time of the first request of all.
func kinds(began func() time.Time) []kind {
	always := func(r testinbox.Reply) func(testinbox.Request) testinbox.Reply {
		return func(testinbox.Request) testinbox.Reply { return r }
	}
	return []kind{
		{name: "healthy", domain: "healthy", hosts: 20, healthy: true},
		{name: "slow (150 ms)", domain: "slow", hosts: 3, healthy: true,
			options: testinbox.Options{Script: always(testinbox.Reply{Delay: 150 * time.Millisecond})}},
		{name: "failing at first", domain: "failing-at-first", hosts: 3, healthy: true,
			options: testinbox.Options{Script: func(testinbox.Request) testinbox.Reply {
				if time.Since(began()) < recoversAfter {
					return testinbox.Reply{Status: http.StatusInternalServerError, Body: "still waking up"}
				}
				return testinbox.Reply{}
			}}},
		{name: "RFC 9421 only", domain: "rfc9421-only", hosts: 1, healthy: true,
			options: testinbox.Options{Accept: []testinbox.Scheme{testinbox.RFC9421}}},
		{name: "gone (410)", domain: "gone", hosts: 1, options: testinbox.Options{Script: always(testinbox.Reply{Status: http.StatusGone})}},
		{name: "hanging", domain: "hanging", hosts: 1, options: testinbox.Options{Script: always(testinbox.Reply{Hang: true})}},
		{name: deadKind, domain: "dead", hosts: 1},
	}
}

// host is one host of the demo.
type host struct {
	kind  kind
	name  string // domain:port
	inbox *testinbox.Inbox

	mu    sync.Mutex
	valid map[string]int // accepted requests by path and activity; guarded by mu
}

// world is all the hosts.
type world struct {
	hosts []*host
	fleet *testinbox.Fleet
	names *names
}

func newWorld(keys func(string) crypto.PublicKey) (*world, error) {
	w := &world{}
	for _, k := range kinds(sync.OnceValue(time.Now)) {
		for i := range k.hosts {
			h := newHost(k, keys)
			if h.name = k.domain + ".demo"; k.hosts > 1 {
				h.name = fmt.Sprintf("%s-%d.demo", k.domain, i+1)
			}
			w.hosts = append(w.hosts, h)
		}
	}
	fleet, err := testinbox.StartFleet(len(w.hosts), func(i int) http.Handler { return w.hosts[i].inbox })
	if err != nil {
		return nil, err
	}
	w.fleet = fleet
	known := map[string][4]byte{}
	for i, h := range w.hosts {
		name := h.name
		known[name] = h.place(fleet.Host(i))
	}
	if w.names, err = startNames(known); err != nil {
		return nil, errors.Join(err, fleet.Close())
	}
	return w, nil
}

// place adds the port to the name of a host that serves at an address, and returns the address without it.
func (h *host) place(address string) [4]byte {
	if h.kind.name == deadKind {
		address = deadAddress
	}
	at := netip.MustParseAddrPort(address)
	h.name = fmt.Sprintf("%s:%d", h.name, at.Port())
	return at.Addr().As4()
}

func newHost(k kind, keys func(string) crypto.PublicKey) *host {
	h := &host{kind: k, valid: map[string]int{}}
	o := k.options
	o.Keys = keys
	o.Keep = 1
	reply := o.Script
	o.Script = func(r testinbox.Request) testinbox.Reply {
		var answer testinbox.Reply
		if reply != nil {
			answer = reply(r)
		}
		if answer.Status == 0 && !answer.Hang {
			h.mu.Lock()
			h.valid[r.Path+" "+r.ActivityID]++
			h.mu.Unlock()
		}
		return answer
	}
	h.inbox = testinbox.New(o)
	return h
}

// got returns how many different deliveries the host accepted, and how many repeats.
func (h *host) got() (different, repeated int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.valid {
		repeated += n - 1
	}
	return len(h.valid), repeated
}

func (w *world) close() {
	w.names.close()
	_ = w.fleet.Close()
}

func (w *world) inboxes() []string {
	var urls []string
	for _, h := range w.hosts {
		for i := range inboxesPerHost {
			urls = append(urls, fmt.Sprintf("http://%s/users/%d/inbox", h.name, i))
		}
	}
	return urls
}

// progress returns how many deliveries the healthy hosts accepted, and how many there will be.
func (w *world) progress() (got, want int) {
	for _, h := range w.hosts {
		if h.kind.healthy {
			n, _ := h.got()
			got += n
			want += activities * inboxesPerHost
		}
	}
	return got, want
}

// watch shows progress until the healthy hosts have everything, or have got nothing new for as long as patience.
func watch(ctx context.Context, o Options, w *world, patience time.Duration) error {
	every := time.Second
	format := "%4.0f s  %5d of %5d deliveries to healthy hosts  %5d/s\n"
	if o.IsTTY {
		every = 200 * time.Millisecond
		format = "\r" + format[:len(format)-1] + " "
	}
	tick := time.Tick(every)
	began, last := time.Now(), 0
	moved := began
	for {
		got, want := w.progress()
		fmt.Fprintf(o.Out, format, time.Since(began).Seconds(), got, want, int(float64(got-last)/every.Seconds()))
		if got > last {
			moved = time.Now()
		}
		last = got
		if got == want || time.Since(moved) > patience {
			if o.IsTTY {
				fmt.Fprintln(o.Out)
			}
			if got < want {
				return ErrIncomplete
			}
			return nil
		}
		select {
		case <-tick:
		case <-ctx.Done():
			return ErrIncomplete
		}
	}
}

// summarise prints a row for each kind of host.
func summarise(ctx context.Context, out io.Writer, n *node, w *world, took time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	fmt.Fprintf(out, "\nHealthy hosts were served in %.1f s.\n\n", took.Seconds())
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "kind of host\thosts\taccepted\tdelivered\trepeated\tdead letters\tpending\trequests\tstate\t")
	for i := 0; i < len(w.hosts); i += w.hosts[i].kind.hosts {
		if err := n.row(ctx, t, w.hosts[i:i+w.hosts[i].kind.hosts]); err != nil {
			return err
		}
	}
	return t.Flush()
}

// row prints the row of some hosts of one kind.
func (n *node) row(ctx context.Context, out io.Writer, hosts []*host) error {
	var delivered, repeated, dead, pending, requests int
	states := map[string]bool{}
	state := ""
	for _, h := range hosts {
		s, err := n.api.Host(ctx, h.name)
		if err != nil {
			return err
		}
		for _, err := range client.List[json.RawMessage](ctx, n.api, "/v1/dead-letters", url.Values{"host": {h.name}}) {
			if err != nil {
				return err
			}
			dead++
		}
		d, r := h.got()
		delivered += d
		repeated += r
		pending += s.Pending
		requests += h.inbox.Count()
		if !states[s.State] {
			states[s.State] = true
			state += " " + s.State
		}
	}
	_, err := fmt.Fprintf(out, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t\n", hosts[0].kind.name, len(hosts),
		len(hosts)*inboxesPerHost*activities, delivered, repeated, dead, pending, requests, state)
	return err
}
