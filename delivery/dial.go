package delivery

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/postrider/postrider/internal/netguard"
)

// dialer opens the client's connections: only to addresses that the policy allows, and within one time-out for
// look-up, connection and TLS handshake together.
type dialer struct {
	timeout  time.Duration
	policy   *netguard.Policy
	resolver *net.Resolver
	tls      *tls.Config // ServerName is set for each connection
	idle     *idleConns
}

// dial opens a connection without TLS.
func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	return d.connect(ctx, network, addr)
}

// dialTLS opens a connection with TLS. It returns a *tls.Conn, in which net/http looks for the protocol agreed on.
func (d *dialer) dialTLS(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	name, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	raw, err := d.connect(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	config := d.tls.Clone()
	config.ServerName = name
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("TLS handshake with %s: %w", addr, err)
	}
	return conn, nil
}

// connect looks the host up and connects to one of its addresses. Each address is judged when it is dialled, so that
// no later answer of the name server can take the place of the one judged. The error wraps netguard.ErrPrivate only if
// no address was allowed.
func (d *dialer) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	var allowed atomic.Bool // addresses are dialled in parallel
	nd := net.Dialer{
		Resolver: d.resolver,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			err := d.check(address)
			if err == nil {
				allowed.Store(true)
			}
			return err
		},
	}
	conn, err := nd.DialContext(ctx, network, addr)
	if err == nil {
		return &trackedConn{Conn: conn, idle: d.idle}, nil
	}
	if allowed.Load() && errors.Is(err, netguard.ErrPrivate) {
		return nil, hideRefusal(ctx, err)
	}
	return nil, err
}

// check judges an address about to be dialled.
func (d *dialer) check(address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", netguard.ErrPrivate, err)
	}
	return d.policy.Check(ap.Addr())
}

// hideRefusal keeps the text of a refusal but not its identity: net.Dialer returns the first of several errors, and a
// host of which one address is refused and another does not answer is unreachable for now, not refused for ever.
func hideRefusal(ctx context.Context, refusal error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("no other address answers: %w (%v)", err, refusal)
	}
	return fmt.Errorf("no other address answers (%v)", refusal)
}

// idleConns bounds the connections kept open for nobody. The transport's own bound is not enough: it counts HTTP/2
// connections, but lets them stay open when it drops them, so a fan-out to thousands of hosts would keep thousands
// open until they time out.
type idleConns struct {
	max int

	mu    sync.Mutex
	order list.List // of *trackedConn, the one idle for the longest time first; guarded by mu
}

// trackedConn is a connection that idleConns knows of from its first use on.
type trackedConn struct {
	net.Conn
	idle *idleConns

	users   int           // attempts that use it; guarded by idle.mu
	waiting *list.Element // its place in idle.order while it has no users; guarded by idle.mu
	closed  bool          // by either side; guarded by idle.mu
}

// acquire notes that an attempt uses the connection, and tells whether it can: it is too late if the connection was
// closed since the transport picked it.
func (c *trackedConn) acquire() bool {
	c.idle.mu.Lock()
	defer c.idle.mu.Unlock()
	c.users++
	c.unlist()
	return !c.closed
}

// release notes that an attempt is done with the connection.
func (c *trackedConn) release() {
	c.idle.mu.Lock()
	if c.users--; c.users == 0 && !c.closed {
		c.waiting = c.idle.order.PushBack(c)
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

// evict takes a connection out if more than n are idle, and returns it to be closed; else nil.
func (s *idleConns) evict(n int) *trackedConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.order.Len() <= n {
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
