package queue

import (
	"fmt"
	"iter"
	"strings"
	"time"
)

// Order is what Act is asked for: by whom and, with Pause and Block, why and for how long. The zero Order has no end and
// gives no reason.
//
// An order holds until its time has passed, or Resume or Unblock ends it; both have the same effect, and both are a change of
// state with one entry in the feed. Another order of the same action replaces it, but for the time since when it holds. A host's
// Pause and its Block are independent of each other. No order is forgotten, and Reset ends none.
type Order struct {
	Reason string        // for people: one line of at most 500 characters, or ""
	By     string        // the name of the token that asked for it, "" if there is none
	For    time.Duration // how long it holds, to a millisecond, at most MaxOrder; 0 is without end
	// Subdomains extends a Pause or a Block to every host that the name covers (see Over), those known and those that are only
	// heard of later, in all of the store. The name must have a dot, and be neither an address nor have a port. A host that
	// is covered is paused or blocked as long as its own order or one that covers it holds.
	//
	// Once Act has returned, nothing is accepted for a covered host, or taken from its lane. That the host is listed and
	// counted in its new state, its entry in the feed, and that what pends for it is dead, follow in bounded steps: what
	// Act leaves, Sweep does.
	Subdomains bool
}

// MaxOrder is the longest that an order with an end holds.
const MaxOrder = 10 * 365 * 24 * time.Hour

// HostOrder is an order that holds for a host.
type HostOrder struct {
	Action     HostAction `json:"action"` // Pause or Block
	Host       string     `json:"host"`   // that it was given for; another host if it covers this one
	Reason     string     `json:"reason,omitempty"`
	By         string     `json:"by,omitempty"`
	Since      time.Time  `json:"since,omitzero"`
	Until      time.Time  `json:"until,omitzero"` // zero if it has no end
	Subdomains bool       `json:"subdomains,omitempty"`
}

// CoveredError is the error of Resume and Unblock for a host that has no such order of its own but is covered by one.
type CoveredError struct{ Host string } // whose order it is: to be ended there

// Error names the host whose order it is.
func (e *CoveredError) Error() string {
	return fmt.Sprintf("an order for %s and its subdomains holds", e.Host)
}

// Over returns the names whose orders with Subdomains cover a host, the nearest first: those that its name ends with, after a
// dot. Ports do not count, so the name of a host with a port is one of them. A name without a dot is none.
func Over(host string) iter.Seq[string] {
	return func(yield func(string) bool) {
		name := host
		if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
			name = "." + host[:i]
		}
		for {
			_, parent, _ := strings.Cut(name, ".")
			if name = parent; !strings.Contains(name, ".") || !yield(name) {
				return
			}
		}
	}
}
