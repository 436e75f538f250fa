package delivery

import (
	"errors"
	"sync/atomic"
)

// A peer may cost one attempt so much, and a connection that no attempt uses the rest. An honest inbox needs a small part
// of it: some ten calls, or 3000 if it allows the largest activity by HTTP/2 a kilobyte at a time. Floods of frames need
// more.
const (
	attemptBytes = 1 << 20  // read
	attemptCalls = 4000     // reads and writes
	restBytes    = 96 << 10 // read, by the handshake too: it holds the chain of certificates
	restCalls    = 1000     // reads and writes
	maxChain     = 64 << 10 // bytes of certificates that a host may show
)

// errFlood ends a connection whose peer cost too much.
var errFlood = errors.New("the inbox sent too much")

// budget is what the peer of a connection may still cost. It is safe for concurrent use.
type budget struct {
	bytes, calls atomic.Int64
}

// begin gives a new connection what it may cost before an attempt uses it.
func (b *budget) begin() {
	b.bytes.Store(restBytes)
	b.calls.Store(restCalls)
}

// grant allows what one more attempt may cost.
func (b *budget) grant() {
	b.bytes.Add(attemptBytes)
	b.calls.Add(attemptCalls)
}

// settle takes back what attempts that ended left over: users of them go on.
func (b *budget) settle(users int) {
	lower(&b.bytes, max(restBytes, int64(users)*attemptBytes))
	lower(&b.calls, max(restCalls, int64(users)*attemptCalls))
}

// lower lowers n to most. A simultaneous spending is not lost.
func lower(n *atomic.Int64, most int64) {
	if over := n.Load() - most; over > 0 {
		n.Add(-over)
	}
}

// spend notes a read of n bytes, or a write if n is 0, and reports whether the peer may cost as much.
func (b *budget) spend(n int) bool {
	return b.calls.Add(-1) >= 0 && b.bytes.Add(-int64(n)) >= 0
}
