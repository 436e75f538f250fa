package resolver

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// skipFor is how long a server that was silent is skipped.
const skipFor = 30 * time.Second

var errSkipped = errors.New("it was silent a moment ago, and no other server has an answer")

// query is a question that is put to one server after the other.
type query struct {
	resolver *Resolver
	insists  bool // no server is skipped
	dials    atomic.Int64
	skipped  atomic.Bool // a server was skipped
	answered atomic.Bool // a server answered
}

// dial opens a connection to a name server. Go's resolver calls it with each server of the system in turn.
func (q *query) dial(ctx context.Context, network, server string) (net.Conn, error) {
	server, ok := q.choose(server)
	if !ok {
		q.skipped.Store(true)
		return nil, errSkipped
	}
	dialer := net.Dialer{Timeout: q.resolver.patience}
	conn, err := dialer.DialContext(ctx, network, server)
	if err != nil {
		if ctx.Err() == nil {
			q.resolver.silent.add(server)
		}
		return nil, err
	}
	e := &exchange{Conn: conn, query: q, server: server}
	e.closeEarly(ctx)
	if _, ok := conn.(net.PacketConn); ok {
		return datagrams{e}, nil
	}
	return e, nil
}

// choose returns the server to ask: the given one or, if the resolver has fixed servers, the next of those. It reports
// whether there is one that isn't skipped.
func (q *query) choose(server string) (string, bool) {
	fixed := q.resolver.fixed
	silent := &q.resolver.silent
	if len(fixed) == 0 {
		return server, q.insists || !silent.skip(server)
	}
	first := int(q.dials.Add(1) - 1)
	for i := range fixed {
		if server := fixed[(first+i)%len(fixed)]; q.insists || !silent.skip(server) {
			return server, true
		}
	}
	return "", false
}

// exchange is a connection to a name server, with the resolver's patience as its time-out.
type exchange struct {
	net.Conn
	query  *query
	server string
	ended  func() bool
}

// closeEarly closes the connection when the look-up is cancelled: not all look-ups of Go's resolver end with their
// contexts. It does not close it at a deadline, which Read has to see.
func (e *exchange) closeEarly(ctx context.Context) {
	e.ended = context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.Canceled) {
			_ = e.Conn.Close()
		}
	})
}

// Close closes the connection.
func (e *exchange) Close() error {
	e.ended()
	return e.Conn.Close()
}

// SetDeadline sets the deadline that Go's resolver wants, or an earlier one.
func (e *exchange) SetDeadline(t time.Time) error {
	if most := time.Now().Add(e.query.resolver.patience); t.IsZero() || t.After(most) {
		t = most
	}
	return e.Conn.SetDeadline(t)
}

// Read records whether the server answers.
func (e *exchange) Read(b []byte) (int, error) {
	n, err := e.Conn.Read(b)
	if err == nil {
		e.query.answered.Store(true)
		e.query.resolver.silent.remove(e.server)
	} else if !errors.Is(err, net.ErrClosed) {
		e.query.resolver.silent.add(e.server)
	}
	return n, err
}

// datagrams is an exchange over UDP: Go's resolver takes it for one because it is a net.PacketConn.
type datagrams struct{ *exchange }

// ReadFrom implements net.PacketConn.
func (d datagrams) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := d.Read(b)
	return n, d.RemoteAddr(), err
}

// WriteTo implements net.PacketConn.
func (d datagrams) WriteTo(b []byte, _ net.Addr) (int, error) { return d.Write(b) }

// silent is the set of servers that did not answer, with the times when they did not.
type silent struct{ since sync.Map }

func (s *silent) add(server string) { s.since.Store(server, time.Now()) }

func (s *silent) remove(server string) { s.since.Delete(server) }

// skip reports whether to ask another server instead. When a server has been skipped for long enough, one query tries it
// again, while the others still skip it.
func (s *silent) skip(server string) bool {
	since, ok := s.since.Load(server)
	return ok && (time.Since(since.(time.Time)) < skipFor || !s.since.CompareAndSwap(server, since, time.Now()))
}
