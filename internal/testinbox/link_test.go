package testinbox

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// halfPipe is a pipe that can end one direction, as TCP can.
type halfPipe struct {
	net.Conn
	ended chan struct{}
}

func (p halfPipe) CloseRead() error {
	close(p.ended)
	return nil
}

func TestFarConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		const rtt = 100 * time.Millisecond
		began := time.Now()
		host := &farConn{Conn: halfPipe{far, make(chan struct{})}, rtt: rtt, opened: began}
		arrives := func(want string, after time.Duration) {
			t.Helper()
			got := make([]byte, len(want))
			if _, err := io.ReadFull(near, got); err != nil || string(got) != want || time.Since(began) != after {
				t.Errorf("%q after %s: %v; want %q after %s", got, time.Since(began), err, want, after)
			}
		}
		write := func(text string) {
			t.Helper()
			if n, err := host.Write([]byte(text)); n != len(text) || err != nil {
				t.Errorf("write: %d, %v", n, err)
			}
		}
		write("first ")
		write("flight")
		if time.Since(began) != 0 {
			t.Error("Write waits for bytes that travel")
		}
		arrives("first flight", 2*rtt) // the handshake of TCP counts
		write("later")
		arrives("later", 3*rtt)
		write("last")
		if err := host.Close(); err != nil {
			t.Error(err)
		}
		arrives("last", 4*rtt)
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(began) != 4*rtt {
			t.Errorf("the end: %v after %s", err, time.Since(began))
		}
	})
}

func TestFarFleet(t *testing.T) {
	fleet, err := StartFarFleet(2, func(int) http.Handler { return New(Options{Unsigned: true}) }, func(int) Link {
		return Link{RTT: time.Millisecond, Idle: time.Minute}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = fleet.Close() }()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(fleet.CA())
	sessions := tls.NewLRUClientSessionCache(0)
	for range 2 { // the second time the sessions are taken up
		transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots, ClientSessionCache: sessions}}
		defer transport.CloseIdleConnections()
		for i := range 2 {
			if status, _, err := post(t.Context(), &http.Client{Transport: transport}, fleet.Inbox(i, "/inbox"), "{}"); status != http.StatusAccepted || err != nil {
				t.Errorf("host %d: %d, %v", i, status, err)
			}
		}
	}
	if all, resumed := fleet.Handshakes(); all != 4 || resumed != 2 {
		t.Errorf("%d handshakes, %d of them resumed", all, resumed)
	}
}

func TestFarHostsCloseIdleConnections(t *testing.T) {
	fleet, err := StartFarFleet(1, func(int) http.Handler { return New(Options{Unsigned: true}) }, func(int) Link {
		return Link{Idle: time.Millisecond}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = fleet.Close() }()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(fleet.CA())
	conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: roots}}).DialContext(t.Context(), "tcp", fleet.Host(0))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: "+fleet.Host(0)+"\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil { // ends only when the host closes the connection
		t.Error(err)
	}
}
