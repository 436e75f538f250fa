package delivery

import (
	"container/list"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/internal/resolver"
)

// dialer opens the client's connections: only to addresses that the policy allows, and within one time-out for
// connection and TLS handshake together. Looking the name up has a time-out of its own.
type dialer struct {
	timeout  time.Duration
	policy   *netguard.Policy
	resolver *resolver.Resolver
	trust    *atomic.Pointer[trust]
	// protocols are what is offered in a handshake (ALPN).
	protocols []string
	classic   *hostSet // by host and port: whom not to offer hybrid key exchange, see handshake
	idle      *idleConns
}

// dial opens a connection without TLS.
func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, _, err := d.connect(ctx, network, addr)
	return conn, err
}

// dialTLS opens a connection with TLS. It returns a *tls.Conn, in which net/http looks for the protocol agreed on.
func (d *dialer) dialTLS(ctx context.Context, network, addr string) (net.Conn, error) {
	name, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	raw, until, err := d.connect(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	return d.handshake(ctx, raw.(*trackedConn), addr, name)
}

// idleConns bounds the connections that no attempt uses, and what they hold of their hosts' certificates. The
// transport's own bound is not enough: it counts HTTP/2 connections, but lets them stay open when it drops them, so a
// fan-out to thousands of hosts would keep thousands open until they time out.
type idleConns struct {
	max int

	mu     sync.Mutex
	order  list.List // of *trackedConn, the one idle for the longest time first; guarded by mu
	chains int       // bytes of their handshakes; guarded by mu
}

// idleChain is the most that the handshake of an idle connection may have brought in the mean, in bytes.
const idleChain = 16 << 10

// trackedConn is a connection that idleConns knows of from its first use on.
type trackedConn struct {
	net.Conn
	idle *idleConns

	read      atomic.Int64          // bytes that came
	chain     atomic.Int64          // bytes that its handshake brought, once that is over
	budget    budget                // of the peer
	unwritten atomic.Pointer[error] // why the first Write failed that did, see Write

	users   int           // attempts that use it; guarded by idle.mu
	waiting *list.Element // its place in idle.order while it has no users; guarded by idle.mu
	closed  bool          // by either side; guarded by idle.mu
}

func newTrackedConn(conn net.Conn, idle *idleConns) *trackedConn {
	c := &trackedConn{Conn: conn, idle: idle}
	c.budget.begin()
	return c
}

// chainSize returns how many bytes the handshake brought, until now if it is not over.
func (c *trackedConn) chainSize() int {
	if n := c.chain.Load(); n > 0 {
		return int(n)
	}
	return int(c.read.Load())
}

// acquire notes that an attempt uses the connection, and reports whether it can: it is too late if the connection was
// closed since the transport picked it, or before, which Write keeps from it.
func (c *trackedConn) acquire() bool {
	c.idle.mu.Lock()
	defer c.idle.mu.Unlock()
	c.users++
	c.budget.grant()
	c.unlist()
	return !c.closed && c.unwritten.Load() == nil
}

// release notes that an attempt is done with the connection.
func (c *trackedConn) release() {
	c.idle.mu.Lock()
	c.users--
	c.budget.settle(c.users)
	if c.users == 0 && !c.closed {
		c.waiting = c.idle.order.PushBack(c)
		c.idle.chains += int(c.chain.Load())
	}
	c.idle.mu.Unlock()
	c.idle.shrink(c.idle.max)
}

// shrink closes idle connections until there are n at the most, those idle for the longest time first.
func (s *idleConns) shrink(n int) {
	for c := s.evict(n); c != nil; c = s.evict(n) {
		_ = c.Close()
	}
}

// evict takes a connection out if more than n are idle or hold more than n may, and returns it to be closed; else nil.
func (s *idleConns) evict(n int) *trackedConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.order.Len() <= n && s.chains <= n*idleChain {
		return nil
	}
	c := s.order.Front().Value.(*trackedConn)
	c.unlist()
	c.closed = true
	return c
}

// unlist takes the connection from the idle ones. The caller holds idle.mu.
func (c *trackedConn) unlist() {
	if c.waiting != nil {
		c.idle.order.Remove(c.waiting)
		c.idle.chains -= int(c.chain.Load())
		c.waiting = nil
	}
}

// Close closes the connection. The transport calls it too, when either side ends the connection.
func (c *trackedConn) Close() error {
	c.idle.mu.Lock()
	c.unlist()
	c.closed = true
	c.idle.mu.Unlock()
	return c.Conn.Close()
}
