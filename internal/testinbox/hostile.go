package testinbox

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
)

// Early answers a request before its body was read, and resets the connection at once, as some servers do with requests
// that are too large for them. It is for HTTP/1.1, with or without TLS.
func Early(status int, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err) // it is HTTP/2
		}
		defer conn.Close()
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d Early\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
		if secure, ok := conn.(*tls.Conn); ok {
			conn = secure.NetConn()
		}
		_ = conn.(*net.TCPConn).SetLinger(0) // makes Close send a reset
	})
}

// StartHTTP1Fleet is StartTLSFleet with hosts that offer HTTP/2, but end the stream of every HTTP/2 request, or its whole
// connection, with HTTP_1_1_REQUIRED.
func StartHTTP1Fleet(n int, connection bool, handler func(i int) http.Handler) (*Fleet, error) {
	return startTLSFleet(n, handler, nil, map[string]func(*http.Server, *tls.Conn, http.Handler){
		"h2": func(_ *http.Server, conn *tls.Conn, _ http.Handler) {
			defer conn.Close()
			_ = requireHTTP1(conn, connection) // until the client has gone
		},
	})
}

// requireHTTP1 refuses the requests of an HTTP/2 connection until it fails, or after the first one closes it.
func requireHTTP1(conn *tls.Conn, connection bool) error {
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return err
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		return err
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return err
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = framer.WriteSettingsAck()
			}
		case *http2.HeadersFrame:
			if connection {
				return framer.WriteGoAway(f.StreamID, http2.ErrCodeHTTP11Required, nil)
			}
			err = framer.WriteRSTStream(f.StreamID, http2.ErrCodeHTTP11Required)
		}
		if err != nil {
			return err
		}
	}
}

// Middlebox is a proxy before a host that drops all data of a connection whose first packet is too large: with TLS, a
// client hello that needs more than one packet on the way. Other connections reach the host.
type Middlebox struct {
	host     string
	most     int
	listener net.Listener
	dropped  atomic.Int64
	passing  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool // guarded by mu: those open; nil once closed
}

// StartMiddlebox starts a middlebox before a host, at the same address and another port. most is in bytes.
func StartMiddlebox(host string, most int) (*Middlebox, error) {
	address, _, err := net.SplitHostPort(host)
	if err != nil {
		return nil, err
	}
	var config net.ListenConfig
	listener, err := config.Listen(context.Background(), "tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return nil, err
	}
	m := &Middlebox{host: host, most: most, listener: listener, conns: map[net.Conn]bool{}}
	m.passing.Go(m.serve)
	return m, nil
}

// Host returns the address that leads through the middlebox.
func (m *Middlebox) Host() string { return m.listener.Addr().String() }

// Dropped returns how many connections were dropped.
func (m *Middlebox) Dropped() int { return int(m.dropped.Load()) }

// Close ends the middlebox and its connections.
func (m *Middlebox) Close() error {
	err := m.listener.Close()
	m.mu.Lock()
	for conn := range m.conns {
		err = errors.Join(err, conn.Close())
	}
	m.conns = nil
	m.mu.Unlock()
	m.passing.Wait()
	return err
}

func (m *Middlebox) serve() {
	for {
		conn, err := m.listener.Accept()
		if err != nil {
			return
		}
		if m.keep(conn) {
			m.passing.Go(func() { m.pass(conn) })
		}
	}
}

// keep records that a connection is open, or closes it if the middlebox is closed.
func (m *Middlebox) keep(conn net.Conn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conns == nil {
		_ = conn.Close()
		return false
	}
	m.conns[conn] = true
	return true
}

// drop closes a connection.
func (m *Middlebox) drop(conn net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conns[conn] {
		delete(m.conns, conn)
		_ = conn.Close()
	}
}

// pass forwards a connection, or discards its data.
func (m *Middlebox) pass(client net.Conn) {
	defer m.drop(client)
	first := make([]byte, 64<<10)
	n, err := client.Read(first)
	if err != nil {
		return
	}
	if n > m.most {
		m.dropped.Add(1)
		_, _ = io.Copy(io.Discard, client)
		return
	}
	var dialer net.Dialer
	host, err := dialer.DialContext(context.Background(), "tcp", m.host)
	if err != nil || !m.keep(host) {
		return
	}
	defer m.drop(host)
	if _, err := host.Write(first[:n]); err != nil {
		return
	}
	m.passing.Go(func() {
		_, _ = io.Copy(client, host)
		m.drop(client)
	})
	_, _ = io.Copy(host, client)
}
