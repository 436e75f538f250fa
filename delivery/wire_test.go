package delivery

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/internal/testinbox"
)

// newLargePost makes a request whose body is more than the buffers between two sockets hold.
func newLargePost(t *testing.T, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(make([]byte, 8<<20)))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// reset closes a connection with a reset, also where all was read.
func reset(conn net.Conn) {
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

// An inbox may answer before it has read the request, and reset the connection while we still write: its answer counts.
func TestEarlyAnswerWithReset(t *testing.T) {
	const tooLarge = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\ntoo large"
	early := func(conn net.Conn) {
		_, _ = io.ReadFull(conn, make([]byte, 100))
		_, _ = io.WriteString(conn, tooLarge)
		reset(conn)
	}
	secure := &tls.Config{Certificates: []tls.Certificate{testCA(t).issue(t, time.Now().Add(time.Hour))}}
	for name, url := range map[string]string{
		"clear": "http://" + serveRaw(t, early).String(),
		"TLS":   "https://" + serveRaw(t, func(conn net.Conn) { early(tls.Server(conn, secure)) }).String(),
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, ClientOptions{Policy: loopback, RootCAs: testCA(t).pool})
			for range 40 {
				if got := c.Post(newLargePost(t, url+"/inbox")); got.Status != 413 || got.Excerpt != "too large" {
					t.Fatalf("got %+v", got)
				}
			}
		})
	}
}

// A host that answers early by HTTP/2 ends the stream alone.
func TestEarlyAnswerByHTTP2(t *testing.T) {
	inbox := newInbox(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
	}))
	c := newClient(t, ClientOptions{Policy: loopback, RootCAs: testCA(t).pool})
	for range 10 {
		if got := c.Post(newLargePost(t, inbox.URL)); got.Status != 413 || got.Excerpt != "too large" {
			t.Fatalf("got %+v", got)
		}
	}
}

// The error has the cause that ended a connection during a write, if no answer came.
func TestResetWithoutAnAnswer(t *testing.T) {
	addr := serveRaw(t, func(conn net.Conn) {
		_, _ = io.ReadFull(conn, make([]byte, 100))
		reset(conn)
	})
	got := newClient(t, ClientOptions{Policy: loopback}).Post(newLargePost(t, "http://"+addr.String()))
	if got.Status != 0 || got.Err == nil || got.TimedOut || outcomeOf(got) != OutcomeUnreachable {
		t.Errorf("got %+v", got)
	}
}

// trusting returns the authority of a fleet's certificates.
func trusting(t *testing.T, f *testinbox.Fleet) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(f.CA()) {
		t.Fatal("no certificate")
	}
	return pool
}

// A host behind a middlebox that drops large packets is reached at the second attempt, and from then on.
func TestClassicKeyExchange(t *testing.T) {
	const packet = 1400
	var classic atomic.Int64
	fleet, err := testinbox.StartTLSFleet(1, func(int) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if id := r.TLS.CurveID; id == tls.X25519 || id == tls.CurveP256 {
				classic.Add(1)
			}
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	box, err := testinbox.StartMiddlebox(fleet.Host(0), packet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = box.Close(); _ = fleet.Close() })

	c := newClient(t, ClientOptions{Policy: loopback, RootCAs: trusting(t, fleet), ConnectTimeout: 500 * time.Millisecond})
	url := "https://" + box.Host() + "/inbox"
	if got := c.Post(newPost(t, url)); got.Status != 0 || !got.TimedOut || box.Dropped() != 1 {
		t.Fatalf("first attempt: %+v, %d connections dropped", got, box.Dropped())
	}
	for i := range 2 {
		if got := c.Post(newPost(t, url)); got.Status != 200 || got.Reused {
			t.Errorf("attempt %d: %+v", i+2, got)
		}
		c.Close()
	}
	if classic.Load() != 2 || box.Dropped() != 1 {
		t.Errorf("%d classic key exchanges and %d connections dropped, want 2 and 1", classic.Load(), box.Dropped())
	}
	if got := c.Post(newPost(t, fleet.Inbox(0, "/inbox"))); got.Status != 200 || classic.Load() != 2 {
		t.Errorf("another host got %+v, and is not offered what is best", got)
	}
}

// Only silence makes the offer smaller: an answer that is no handshake shows that the client hello got there.
func TestAnsweredHandshakeStaysHybrid(t *testing.T) {
	for name, answer := range map[string]string{"alert": "\x15\x03\x03\x00\x02\x02\x28", "no TLS": "SSH-2.0-OpenSSH_9.9\r\n"} {
		t.Run(name, func(t *testing.T) {
			addr := serveRaw(t, func(conn net.Conn) {
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = io.WriteString(conn, answer)
				_, _ = io.Copy(io.Discard, conn)
			})
			var trusted atomic.Pointer[trust]
			trusted.Store(newTrust(nil))
			d := &dialer{timeout: 5 * time.Second, policy: loopback, trust: &trusted, idle: &idleConns{max: 1}, classic: newHostSet(1, time.Hour)}
			if _, err := d.dialTLS(t.Context(), "tcp", addr.String()); err == nil || d.classic.has(addr.String()) {
				t.Errorf("error %v; remembered as one that gets no large client hello: %t", err, d.classic.has(addr.String()))
			}
		})
	}
}

// A host that speaks HTTP/2 but wants HTTP/1.1 for posts gets it in the same attempt, and at once from then on.
func TestHTTP1Required(t *testing.T) {
	for _, connection := range []bool{false, true} {
		t.Run(fmt.Sprintf("connection %t", connection), func(t *testing.T) {
			var posts atomic.Int64
			fleet, err := testinbox.StartHTTP1Fleet(1, connection, func(int) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					body, err := io.ReadAll(r.Body)
					if err != nil || string(body) != `{"type":"Like"}` {
						t.Errorf("got %q: %v", body, err)
					}
					posts.Add(1)
					w.WriteHeader(http.StatusAccepted)
				})
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = fleet.Close() })
			c := newClient(t, ClientOptions{Policy: loopback, RootCAs: trusting(t, fleet)})
			for i := range 3 {
				if got := c.Post(newPost(t, fleet.Inbox(0, "/inbox"))); got.Status != 202 || got.Reused != (i > 0) {
					t.Errorf("attempt %d: %+v", i+1, got)
				}
			}
			if posts.Load() != 3 {
				t.Errorf("%d posts, want 3", posts.Load())
			}
		})
	}
}

// A host can't make us try without end by naming the error in an answer that is no HTTP.
func TestHTTP1RequiredIsNoLoop(t *testing.T) {
	var conns atomic.Int64
	addr := serveRaw(t, func(conn net.Conn) {
		conns.Add(1)
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = io.WriteString(conn, "HTTP_1_1_REQUIRED\r\n\r\n")
	})
	got := newClient(t, ClientOptions{Policy: loopback}).Post(newPost(t, "http://"+addr.String()))
	if got.Err == nil || conns.Load() > 2 {
		t.Errorf("got %+v after %d connections", got, conns.Load())
	}
}

func TestHostSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHostSet(3, time.Hour)
		s.add("old")
		time.Sleep(30 * time.Minute)
		for _, host := range []string{"a", "b", "c"} {
			if s.add(host); !s.has(host) || len(s.known) > 3 {
				t.Errorf("%s remembered: %t; %d hosts are, at most 3 may be", host, s.has(host), len(s.known))
			}
		}
		time.Sleep(29 * time.Minute)
		if s.add("d"); !s.has("d") || len(s.known) != 3 {
			t.Errorf("%d hosts are remembered, want 3", len(s.known))
		}
		time.Sleep(59 * time.Minute)
		s.add("e") // only d's time is not over
		if !s.has("d") || !s.has("e") || s.has("a") || s.has("none") || len(s.known) != 2 {
			t.Errorf("remembered: %v", s.known)
		}
		time.Sleep(time.Hour)
		if s.has("e") {
			t.Error("a host is remembered when its time is over")
		}
	})
}
