// Package resolver looks up the addresses of hosts. If a name can't be looked up, it finds out whether the host's name
// servers or our own are at fault.
//
// It is Go's resolver (the hosts file, then the servers of resolv.conf) with its own time-outs. A DNS library would leave
// the hosts file, resolv.conf, aliases and answers that are cut off to us, and so be more code. What callers may rely on:
//
//   - A name with a dot in it is absolute: no search domain is appended.
//   - A look-up repeats its question until it has an answer or Options.Timeout has passed. It waits for one server for a
//     quarter of that at most, and asks a server that was silent last for a while.
//   - IPv4 addresses do not wait long for the answer about IPv6 addresses, nor the other way round.
//   - An error wraps ErrAway only if our own name servers are at fault: they have no answer about other names either.
//   - While they are at fault, Away returns why. Run ends that state once they answer again, and so does any look-up.
//
// What callers may not rely on: that a forwarder is found to be away while it still answers from its cache.
package resolver

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// ErrAway is wrapped by errors that are the fault of our own name servers.
var ErrAway = errors.New("no host name can be looked up")

const (
	defaultTimeout = 10 * time.Second
	maxPatience    = 2 * time.Second        // with one server
	grace          = 250 * time.Millisecond // for the second family once there are addresses of the first
)

// Options configure a Resolver.
type Options struct {
	Timeout time.Duration // of one look-up; 0 is 10 s
	Servers []string      // host:port; nil is those of the system
	Log     *slog.Logger  // nil is none
	// Observe is called at the end of each look-up that was not cancelled, with how long it took; it may be nil.
	Observe func(Result, time.Duration)
}

// Result is what came of a look-up.
type Result string

// The results of look-ups.
const (
	Found  Result = "found"
	Failed Result = "failed" // the host has no address, or its name servers don't answer
	Away   Result = "away"   // our own name servers don't answer
)

// Results lists the results.
var Results = []Result{Found, Failed, Away}

// Resolver looks up names. Its methods are safe for concurrent use. A nil Resolver is never away.
type Resolver struct {
	timeout  time.Duration
	patience time.Duration
	fixed    []string // servers that replace the system's
	observe  func(Result, time.Duration)
	silent   silent
	health   health
}

// New returns a resolver.
func New(o Options) *Resolver {
	o.Timeout = cmp.Or(o.Timeout, defaultTimeout)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Observe == nil {
		o.Observe = func(Result, time.Duration) {}
	}
	return &Resolver{
		timeout:  o.Timeout,
		patience: min(maxPatience, o.Timeout/4),
		fixed:    o.Servers,
		observe:  o.Observe,
		health:   health{log: o.Log, check: make(chan struct{}, 1), fell: make(chan struct{}, 1)},
	}
}

// Lookup yields the addresses of a host: all at once or, if the name servers take long over one family, those of the
// other family first and the rest when the caller asks for more. If there are none, it yields an error.
func (r *Resolver) Lookup(ctx context.Context, host string) iter.Seq2[[]netip.Addr, error] {
	return func(yield func([]netip.Addr, error) bool) {
		began := time.Now()
		var asking sync.WaitGroup
		defer asking.Wait()
		limited, cancel := context.WithTimeout(ctx, r.timeout)
		defer cancel()
		answers := make(chan answer, 2)
		for _, family := range []string{"ip4", "ip6"} {
			asking.Go(func() { answers <- r.addresses(limited, family, host) })
		}
		first := <-answers
		second, late := awaitSecond(answers, len(first.addrs) > 0)
		if addrs := interleave(first.addrs, second.addrs); len(addrs) > 0 {
			r.observe(Found, time.Since(began))
			if yield(addrs, nil) && late {
				if second = <-answers; len(second.addrs) > 0 {
					yield(second.addrs, nil)
				}
			}
			return
		}
		err := r.explain(ctx, host, began, first, second)
		result := Failed
		if errors.Is(err, ErrAway) {
			result = Away
		}
		if ctx.Err() == nil {
			r.observe(result, time.Since(began))
		}
		yield(nil, err)
	}
}

// awaitSecond waits for the second answer, but not for long if hurried. It reports whether the answer is late.
func awaitSecond(answers <-chan answer, hurried bool) (second answer, late bool) {
	if !hurried {
		return <-answers, false
	}
	select {
	case second = <-answers:
		return second, false
	case <-time.After(grace):
		return answer{}, true
	}
}

// interleave merges the addresses of two families, IPv6 first.
// SPEC: RFC 8305, section 4: "addresses of the first address family should be followed by those of the other".
func interleave(a, b []netip.Addr) []netip.Addr {
	if len(a) > 0 && a[0].Is4() {
		a, b = b, a
	}
	merged := make([]netip.Addr, 0, len(a)+len(b))
	for i := range max(len(a), len(b)) {
		for _, list := range [][]netip.Addr{a, b} {
			if i < len(list) {
				merged = append(merged, list[i])
			}
		}
	}
	return merged
}

// answer is the answer about the addresses of one family.
type answer struct {
	addrs      []netip.Addr
	answered   bool // also if the answer is that there are none
	fromServer bool // else from the hosts file
	err        error
}

// addresses asks for the addresses of one family.
func (r *Resolver) addresses(ctx context.Context, family, host string) answer {
	var a answer
	began := time.Now()
	a.answered, a.fromServer, a.err = r.ask(ctx, func(names *net.Resolver) (err error) {
		a.addrs, err = names.LookupNetIP(ctx, family, absolute(host))
		return err
	})
	for i := range a.addrs {
		a.addrs[i] = a.addrs[i].Unmap()
	}
	if a.fromServer {
		r.health.answered(began, host, len(a.addrs) > 0)
	}
	return a
}

// absolute makes a name with a dot absolute, so that no search domain is appended.
func absolute(host string) string {
	if strings.Contains(host, ".") && !strings.HasSuffix(host, ".") {
		return host + "."
	}
	return host
}

// ask asks until there is an answer, an error other than a time-out, or ctx ends. It reports whether there was an answer,
// and whether a server gave it. Each question has its own net.Resolver: callers of a shared one may share a question, and
// could not tell which server was asked.
func (r *Resolver) ask(ctx context.Context, look func(*net.Resolver) error) (answered, fromServer bool, err error) {
	for insists := false; ; {
		q := &query{resolver: r, insists: insists}
		err := look(&net.Resolver{PreferGo: true, Dial: q.dial})
		switch {
		case err == nil || isNone(err):
			return true, q.answered.Load(), err
		case ctx.Err() != nil:
			return false, false, err
		case q.skipped.Load() && !q.answered.Load():
			insists = true // those skipped may answer now
		case !isTimeout(err):
			return false, false, err
		}
	}
}

// isNone reports whether err is the answer that there is no such name, or no address of the family.
func isNone(err error) bool {
	if failed, ok := errors.AsType[*net.DNSError](err); ok {
		return failed.IsNotFound
	}
	_, other := errors.AsType[*net.AddrError](err) // from the hosts file, where the name has addresses of the other family
	return other
}

func isTimeout(err error) bool {
	failed, ok := errors.AsType[net.Error](err)
	return ok && failed.Timeout()
}

// explain returns the error of a look-up that found no address.
func (r *Resolver) explain(ctx context.Context, host string, began time.Time, a, b answer) error {
	if a.answered {
		a, b = b, a
	}
	err := a.err // of a family that was not answered, if there is one
	if failed, ok := errors.AsType[*net.DNSError](err); ok {
		named := *failed
		named.Name = host // as the caller knows it
		err = &named
	}
	if a.answered || b.answered || ctx.Err() != nil {
		return err
	}
	return r.blame(ctx, host, began, err)
}
