package delivery

import (
	"crypto/tls"
	"net"
	"net/http/httptrace"
	"sync"
)

// loan follows the connections that one request is given: one, or more if it has to be repeated.
type loan struct {
	mu   sync.Mutex
	conn *trackedConn // guarded by mu, for hangUp

	reused bool
	stale  bool // kept, and closed before it could be used
}

// begin is called for each connection, by the goroutine that runs RoundTrip.
func (l *loan) begin(info httptrace.GotConnInfo) {
	l.end()
	lent := trackedOf(info.Conn)
	l.reused = info.Reused
	l.stale = !lent.acquire() && info.Reused
	l.set(lent)
}

// trackedOf returns the connection below one that the transport uses.
func trackedOf(conn net.Conn) *trackedConn {
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	return conn.(*trackedConn)
}

func (l *loan) end() {
	if lent := l.set(nil); lent != nil {
		lent.release()
	}
}

// set changes the connection and returns the one before.
func (l *loan) set(conn *trackedConn) (before *trackedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before = l.conn
	l.conn = conn
	return before
}

// hangUp closes the connection, even while it is in use. It is safe for concurrent use.
func (l *loan) hangUp() {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn != nil {
		_ = conn.Close()
	}
}
