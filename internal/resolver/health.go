package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxWitnesses = 8
	fewWitnesses = 3
	maxSuspects  = 16
	firstPause   = time.Second // before the first check whether the name servers are back
	maxPause     = 30 * time.Second
)

// health is the state of our own name servers.
type health struct {
	log   *slog.Logger
	check chan struct{} // held by the goroutine that checks them
	fell  chan struct{} // receives when they become unavailable

	mu        sync.Mutex
	worked    time.Time // when the latest question that had an answer was asked; guarded by mu
	away      error     // guarded by mu
	witnesses []string  // names that were found, the latest first; guarded by mu
	suspects  []string  // names without an answer since another name had one; guarded by mu
	wanted    []string  // names that will be needed next; guarded by mu
}

// Away returns why no name can be looked up, or nil.
func (r *Resolver) Away() error {
	if r == nil {
		return nil
	}
	r.health.mu.Lock()
	defer r.health.mu.Unlock()
	return r.health.away
}

// Suggest names hosts that will be needed next: while our name servers are away, Run tries them too.
func (r *Resolver) Suggest(hosts []string) {
	if r == nil {
		return
	}
	r.health.mu.Lock()
	defer r.health.mu.Unlock()
	r.health.wanted = hosts[:min(len(hosts), maxSuspects)]
}

// Run checks from time to time, while our name servers are away, whether they are back. It returns when ctx ends.
func (r *Resolver) Run(ctx context.Context) {
	if r == nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.health.fell:
		}
		for pause := firstPause; r.Away() != nil && wait(ctx, pause); pause = min(2*pause, maxPause) {
			_ = r.answersAny(ctx, r.health.questions()) // records it
		}
	}
}

// wait waits, and reports whether ctx is still alive.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// blame decides whether the host's name servers or our own are at fault that a name has no answer, and returns the error.
// If ours have an answer about any other name, it is the host's fault.
func (r *Resolver) blame(ctx context.Context, host string, began time.Time, err error) error {
	select {
	case r.health.check <- struct{}{}:
		defer func() { <-r.health.check }()
	case <-ctx.Done():
		return err
	}
	r.health.suspect(host)
	if r.Away() == nil {
		if r.health.workedSince(began) || r.answersAny(ctx, r.health.others(host)) || ctx.Err() != nil {
			return err
		}
		r.health.fall(err)
	}
	return fmt.Errorf("%w: %w", ErrAway, err)
}

// answersAny reports whether our name servers have an answer about one of the names, or else about the root, and records
// it. Names without an answer become suspects.
func (r *Resolver) answersAny(ctx context.Context, names []string) bool {
	var asking sync.WaitGroup
	defer asking.Wait()
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, r.timeout/2)
	defer cancel()
	root := make(chan rootAnswer, 1)
	asking.Go(func() { root <- r.askRoot(ctx) })
	silent := make(chan string, len(names)) // a name that had no answer, else ""
	for _, name := range names {
		asking.Go(func() {
			if r.addresses(ctx, "ip4", name).fromServer {
				name = ""
			}
			silent <- name
		})
	}
	for range names {
		name := <-silent
		if name == "" {
			return true
		}
		r.health.suspect(name)
	}
	return r.health.believes(<-root, began)
}

// rootAnswer is the answer of our name servers about the root, which depends on no host.
type rootAnswer int

const (
	rootSilent  rootAnswer = iota
	rootUnknown            // they answer, but know no root
	rootKnown
)

func (r *Resolver) askRoot(ctx context.Context) rootAnswer {
	var servers []*net.NS
	answered, _, _ := r.ask(ctx, func(names *net.Resolver) (err error) {
		servers, err = names.LookupNS(ctx, ".")
		return err
	})
	switch {
	case len(servers) > 0:
		return rootKnown
	case answered:
		return rootUnknown
	}
	return rootSilent
}

// believes reports whether an answer about the root, asked for at a time, shows that our name servers work, though names
// have no answer, and records it. A cache may know the root and find nothing else, so the root counts only while few
// domains are known to be good. A server without a root may answer every question so; it counts while only one domain has
// no answer.
func (h *health) believes(a rootAnswer, asked time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case a == rootKnown && domains(h.witnesses) < fewWitnesses:
		h.works(asked)
	case a == rootUnknown && domains(h.suspects) <= 1:
		h.back()
	default:
		return false
	}
	return true
}

// domains counts the domains of names, each of two labels: hosts below one domain are likely to share name servers.
func domains(names []string) int {
	seen := map[string]bool{}
	for _, name := range names {
		labels := strings.Split(name, ".")
		seen[strings.Join(labels[max(0, len(labels)-2):], ".")] = true
	}
	return len(seen)
}

// answered records that a name had an answer, and whether it was found.
func (h *health) answered(asked time.Time, name string, found bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.works(asked)
	if found {
		h.witnesses = toFront(h.witnesses, name, maxWitnesses)
	}
}

// works records that a question asked at a time had an answer. h.mu is held.
func (h *health) works(asked time.Time) {
	if asked.After(h.worked) {
		h.worked = asked
	}
	h.suspects = nil
	h.back()
}

// back records that our name servers are available. h.mu is held.
func (h *health) back() {
	if h.away != nil {
		h.log.Info("names.back")
		h.away = nil
	}
}

// suspect records that a name had no answer.
func (h *health) suspect(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.suspects = toFront(h.suspects, name, maxSuspects)
}

// toFront returns at most n names, with this one in front.
func toFront(names []string, name string, n int) []string {
	front := []string{name}
	for _, other := range names {
		if other != name && len(front) < n {
			front = append(front, other)
		}
	}
	return front
}

// fall records that our name servers are away. The reason names no host, since anyone may read it.
func (h *health) fall(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if failed, ok := errors.AsType[*net.DNSError](err); ok {
		err = errors.New(strings.TrimPrefix(failed.Server+": "+failed.Err, ": "))
	}
	h.away = fmt.Errorf("%w: %w", ErrAway, err)
	h.log.Error("names.away", "error", err)
	select {
	case h.fell <- struct{}{}:
	default:
	}
}

func (h *health) workedSince(t time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.worked.Before(t)
}

// others returns the names to ask for when a host has no answer.
func (h *health) others(host string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.witnesses), func(name string) bool { return name == host })
}

// questions returns the names to ask for while our name servers are away.
func (h *health) questions() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := slices.Concat(h.witnesses, h.suspects, h.wanted)
	slices.Sort(all)
	return slices.Compact(all)
}
