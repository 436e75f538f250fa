package app

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// incoming is a connection with its own address.
type incoming struct {
	net.Conn
	from string
}

// RemoteAddr implements net.Conn.
func (d incoming) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(d.from))
}

// door is a listener for connections of the test.
type door struct{ conns chan net.Conn }

// Accept implements net.Listener.
func (d door) Accept() (net.Conn, error) {
	if c, open := <-d.conns; open {
		return c, nil
	}
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (d door) Close() error { close(d.conns); return nil }

// Addr implements net.Listener.
func (d door) Addr() net.Addr { return &net.TCPAddr{} }

// knock connects from an address, and sends something. The connection is closed at the end of the test.
func (d door) knock(t *testing.T, from, text string) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _ = ours.Close() })
	d.conns <- incoming{theirs, from}
	if text != "" {
		_, _ = io.WriteString(ours, text)
	}
	synctest.Wait()
	return ours
}

// isServed reports whether a connection is served.
func isServed(c net.Conn) bool {
	_ = c.SetDeadline(time.Now().Add(time.Second))
	_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if err == nil {
		_, err = c.Read(make([]byte, 1024))
	}
	return err == nil
}

// TestConnectionsAreBounded checks that idle connections are closed for new ones, that those in use are not, and that
// clients on other machines leave some to this machine.
func TestConnectionsAreBounded(t *testing.T) {
	const most = 8 // and 6 from elsewhere
	far := func(i int) string { return fmt.Sprintf("203.0.113.%d:1000", i) }
	run := func(name string, check func(t *testing.T, d door, log *bytes.Buffer)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				d := door{make(chan net.Conn)}
				bounded := newConnections(d, most, slog.New(slog.NewTextHandler(&log, nil)))
				server := newServer(slog.New(slog.DiscardHandler), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					w.WriteHeader(http.StatusNoContent)
				}))
				server.ConnState = bounded.note
				done := make(chan struct{})
				go func() { defer close(done); _ = server.Serve(bounded) }()
				check(t, d, &log)
				_ = server.Close()
				<-done
				synctest.Wait()
				if len(bounded.open) != 0 || bounded.far != 0 {
					t.Errorf("%d connections, %d of them from elsewhere, are counted in the end", len(bounded.open), bounded.far)
				}
			})
		})
	}
	run("idle", func(t *testing.T, d door, log *bytes.Buffer) {
		first := d.knock(t, far(0), "")
		for i := 1; i < 100; i++ {
			time.Sleep(time.Millisecond)
			if c := d.knock(t, far(i), ""); i%10 == 0 && !isServed(c) {
				t.Errorf("connection %d is not served", i)
			}
		}
		if isServed(first) || log.Len() > 0 {
			t.Errorf("the idlest connection did not make place: %s", log)
		}
	})
	run("busy", func(t *testing.T, d door, log *bytes.Buffer) {
		var busy []net.Conn
		for i := range 6 {
			busy = append(busy, d.knock(t, far(i), "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx"))
		}
		if late := d.knock(t, far(7), ""); isServed(late) || !strings.Contains(log.String(), "http.connections_full") {
			t.Errorf("there was room for more from elsewhere: %s", log)
		}
		for range 2 {
			if local := d.knock(t, "127.0.0.1:1000", ""); !isServed(local) {
				t.Error("no room was left to this machine")
			}
		}
		_ = busy[0].Close()
		synctest.Wait()
		if late := d.knock(t, far(8), ""); !isServed(late) {
			t.Error("a connection that was closed keeps its place")
		}
	})
}

func TestConnectionsFor(t *testing.T) {
	for _, c := range []struct {
		descriptors       uint64
		concurrency, want int
	}{
		{0, 512, maxConnections}, {1024, 512, minConnections}, {4096, 512, 4096 - 1024 - otherDescriptors}, {1 << 20, 512, maxConnections},
		{^uint64(0), 65536, maxConnections},
	} {
		if got := connectionsFor(c.descriptors, c.concurrency); got != c.want {
			t.Errorf("%+v: got %d", c, got)
		}
	}
}
