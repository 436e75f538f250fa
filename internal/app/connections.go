package app

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/postrider/postrider/internal/telemetry"
)

const (
	minConnections   = 64
	maxConnections   = 16 << 10
	otherDescriptors = 256 // of the store, the name servers and the program's own files
)

// connectionsFor returns how many connections the API may use of a number of file descriptors, 0 if that is not known. It
// leaves enough for deliveries: one for each attempt, and as many for idle connections.
func connectionsFor(descriptors uint64, concurrency int) int {
	if descriptors == 0 {
		return maxConnections
	}
	left := int64(min(descriptors, 1<<30)) - int64(2*concurrency) - otherDescriptors
	return int(max(minConnections, min(left, maxConnections)))
}

// connections is a listener that bounds the number of connections. A quarter of them is reserved for clients on this
// machine. If there is no room for a new connection, it closes the one that has been idle longest or, if none is idle, the
// new one.
type connections struct {
	net.Listener
	most int
	log  *slog.Logger

	mu    sync.Mutex
	open  map[*connection]bool // guarded by mu
	far   int                  // connections from other machines; guarded by mu
	lines telemetry.Sampler
}

// connection is one of those that are open.
type connection struct {
	net.Conn
	owner *connections
	far   bool
	idle  time.Time // since when it serves no request, zero while it does; guarded by owner.mu
}

func newConnections(l net.Listener, most int, log *slog.Logger) *connections {
	return &connections{Listener: l, most: most, log: log, open: map[*connection]bool{}}
}

// Accept implements net.Listener.
func (c *connections) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		admitted, idlest := c.admit(conn)
		if idlest != nil {
			_ = idlest.Conn.Close()
		}
		if admitted != nil {
			return admitted, nil
		}
		_ = conn.Close()
		if skipped, ok := c.lines.Allow(""); ok {
			c.log.Warn("http.connections_full", "most", c.most, "lines_suppressed", skipped)
		}
	}
}

// admit counts a new connection, instead of the idlest if there is no room. It returns nil if there is none and none is
// idle.
func (c *connections) admit(conn net.Conn) (admitted, idlest *connection) {
	admitted = &connection{Conn: conn, owner: c, far: isFar(conn.RemoteAddr()), idle: time.Now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	forFar := c.most - c.most/4
	if full := len(c.open) >= c.most; full || admitted.far && c.far >= forFar {
		if idlest = c.idlest(!full); idlest == nil {
			return nil, nil
		}
		c.remove(idlest)
	}
	c.open[admitted] = true
	if admitted.far {
		c.far++
	}
	return admitted, idlest
}

// idlest returns the connection that has been idle longest, nil if none is. c.mu is held.
func (c *connections) idlest(farOnly bool) (found *connection) {
	for conn := range c.open {
		if conn.idle.IsZero() || farOnly && !conn.far {
			continue
		}
		if found == nil || conn.idle.Before(found.idle) {
			found = conn
		}
	}
	return found
}

// remove stops counting a connection. c.mu is held.
func (c *connections) remove(conn *connection) {
	if c.open[conn] && conn.far {
		c.far--
	}
	delete(c.open, conn)
}

// Close implements net.Conn.
func (conn *connection) Close() error {
	conn.owner.mu.Lock()
	conn.owner.remove(conn)
	conn.owner.mu.Unlock()
	return conn.Conn.Close()
}

// note is the server's ConnState: it records since when a connection is idle.
func (c *connections) note(conn net.Conn, state http.ConnState) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	ours, ok := conn.(*connection)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ours.idle = time.Time{}
	if state == http.StateIdle || state == http.StateNew {
		ours.idle = time.Now()
	}
}

// isFar reports whether an address is that of another machine.
func isFar(addr net.Addr) bool {
	at, err := netip.ParseAddrPort(addr.String())
	return err == nil && !at.Addr().Unmap().IsLoopback()
}
