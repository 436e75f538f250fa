package testinbox

import (
	"net"
	"sync"
	"time"
)

// Link is how far away a host is, and how long it keeps connections.
type Link struct {
	RTT  time.Duration // the time of a round trip
	Idle time.Duration // after which the host closes a connection without requests; 0 is never
}

// farListener makes connections as long as the link.
type farListener struct {
	net.Listener
	rtt time.Duration
}

// Accept implements net.Listener.
func (l farListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &farConn{Conn: c, rtt: l.rtt, opened: time.Now()}, nil
}

// farConn is the host's end of a long connection, as its client sees it: whatever the host writes leaves a round trip
// later, and the first of it one more, for the client's SYN. It is read without delay, as only the sum matters to the
// client. Write does not block while bytes travel, and no goroutine waits for them.
type farConn struct {
	net.Conn
	rtt    time.Duration
	opened time.Time

	mu         sync.Mutex
	travelling [][]byte // in the order in which they were sent; nil is the end; guarded by mu
}

// Write implements net.Conn. An error of a later write is lost, as on a real network; Read sees that the client has gone.
func (c *farConn) Write(p []byte) (int, error) {
	c.send(append([]byte{}, p...))
	return len(p), nil
}

// Close implements net.Conn. The host reads nothing more; its client sees the end after all that was written.
func (c *farConn) Close() error {
	c.send(nil)
	return c.Conn.(interface{ CloseRead() error }).CloseRead()
}

// send lets bytes, or the end of the connection if they are nil, arrive after their way.
func (c *farConn) send(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.travelling = append(c.travelling, p)
	connecting := max(0, c.rtt-time.Since(c.opened))
	time.AfterFunc(connecting+c.rtt, c.arrive)
}

// arrive lets the first of what travels arrive. Timers may run in another order than the writes; the bytes don't.
func (c *farConn) arrive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.travelling[0]
	c.travelling = c.travelling[1:]
	if p == nil {
		_ = c.Conn.Close()
		return
	}
	_, _ = c.Conn.Write(p)
}
