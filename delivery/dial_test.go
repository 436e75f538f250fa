package delivery

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/internal/resolver"
	"github.com/postrider/postrider/internal/testdns"
)

// allowing is a policy that allows these addresses besides the public ones.
func allowing(addrs ...string) *netguard.Policy {
	var allow []netip.Prefix
	for _, s := range addrs {
		addr := netip.MustParseAddr(s)
		allow = append(allow, netip.PrefixFrom(addr, addr.BitLen()))
	}
	return netguard.NewPolicy(allow)
}

// newResolver returns a resolver that asks a name server on loopback. The server answers one look-up after the other
// with a list of IPv4 addresses, nil for NXDOMAIN, and gives the last answer again and again.
func newResolver(t *testing.T, answers ...[]string) *resolver.Resolver {
	t.Helper()
	s := testdns.Start(t, func(q testdns.Query) testdns.Reply {
		reply := testdns.Reply{Addrs: answers[0]}
		if answers[0] == nil {
			reply = testdns.NoName
		}
		if q.Type == dnsmessage.TypeA && len(answers) > 1 {
			answers = answers[1:]
		}
		return reply
	})
	return asking(s)
}

// asking returns a resolver that asks these servers, each for half a second.
func asking(servers ...*testdns.Server) *resolver.Resolver {
	o := resolver.Options{Timeout: 2 * time.Second}
	for _, s := range servers {
		o.Servers = append(o.Servers, s.Addr)
	}
	return resolver.New(o)
}

// inboxAtTwo starts an HTTP server on 127.0.0.2 that accepts everything, and returns its port.
func inboxAtTwo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skipf("this machine has no 127.0.0.2: %v", err)
	}
	s := httptest.NewUnstartedServer(accept)
	_ = s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return portOf(l.Addr())
}

func portOf(addr net.Addr) string { return strconv.Itoa(addr.(*net.TCPAddr).Port) }

// closedPort returns a port of 127.0.0.2 without a listener.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skipf("this machine has no 127.0.0.2: %v", err)
	}
	_ = l.Close()
	return portOf(l.Addr())
}

func TestDialJudgesTheAddressDialled(t *testing.T) {
	open, closed := inboxAtTwo(t), closedPort(t)
	const allowed, refused, refusedToo = "127.0.0.2", "127.0.0.3", "127.0.0.4"
	tests := []struct {
		name        string
		answers     []string
		port        string
		wantStatus  int
		wantPrivate bool
	}{
		{"allowed", []string{allowed}, open, 202, false},
		{"refused", []string{refused}, open, 0, true},
		{"all refused", []string{refused, refusedToo}, open, 0, true},
		{"refused first", []string{refused, allowed}, open, 202, false},
		{"refused last", []string{allowed, refused}, open, 202, false},
		{"refused first, other one down", []string{refused, allowed}, closed, 0, false},
		{"refused last, other one down", []string{allowed, refused}, closed, 0, false},
		{"down", []string{allowed}, closed, 0, false},
		{"no addresses", []string{}, open, 0, false},
		{"NXDOMAIN", nil, open, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t, ClientOptions{Policy: allowing(allowed), Resolver: newResolver(t, tt.answers)})
			got := c.Post(newPost(t, "http://one.example:"+tt.port+"/inbox"))
			if got.Status != tt.wantStatus || (got.Err == nil) != (tt.wantStatus != 0) || got.TimedOut {
				t.Errorf("got %+v, want status %d", got, tt.wantStatus)
			}
			if private := errors.Is(got.Err, netguard.ErrPrivate); private != tt.wantPrivate {
				t.Errorf("got error %v, want one that says private: %t", got.Err, tt.wantPrivate)
			}
		})
	}
}

func TestDialRefusesLiteral(t *testing.T) {
	inbox := newInbox(t, accept)
	c := newClient(t, ClientOptions{RootCAs: testCA(t).pool})
	for _, host := range []string{"127.0.0.1", "[::ffff:127.0.0.1]", "localhost"} {
		got := c.Post(newPost(t, "https://"+host+":"+portOf(inbox.Listener.Addr())+"/inbox"))
		if !errors.Is(got.Err, netguard.ErrPrivate) || got.Status != 0 {
			t.Errorf("%s: got %+v, want a refusal", host, got)
		}
	}
}

// The addresses of a name are checked again for each connection.
func TestDialRebinding(t *testing.T) {
	port := inboxAtTwo(t)
	c := newClient(t, ClientOptions{
		Policy:   allowing("127.0.0.2"),
		Resolver: newResolver(t, []string{"127.0.0.2"}, []string{"127.0.0.3"}),
	})
	url := "http://one.example:" + port + "/inbox"
	if got := c.Post(newPost(t, url)); got.Status != 202 {
		t.Fatalf("first: got %+v", got)
	}
	if got := c.Post(newPost(t, url)); got.Status != 202 || !got.Reused {
		t.Errorf("kept connection: got %+v", got)
	}
	c.Close()
	if got := c.Post(newPost(t, url)); !errors.Is(got.Err, netguard.ErrPrivate) {
		t.Errorf("after the name changed: got %+v, want a refusal", got)
	}
}

func TestConnectTimeout(t *testing.T) {
	mute := serveRaw(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	c := newClient(t, ClientOptions{ConnectTimeout: 20 * time.Millisecond, AttemptTimeout: time.Hour, Policy: loopback})
	if got := c.Post(newPost(t, "https://"+mute.String()+"/inbox")); got.Err == nil || !got.TimedOut || got.Status != 0 {
		t.Errorf("got %+v, want a time-out", got)
	}
}

// connCounter counts the open connections of a server.
type connCounter struct {
	mu     sync.Mutex
	change *sync.Cond
	open   int
}

// count makes the server's connections count.
func (n *connCounter) count(s *httptest.Server) {
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		n.mu.Lock()
		defer n.mu.Unlock()
		switch state {
		case http.StateNew:
			n.open++
		case http.StateClosed, http.StateHijacked:
			n.open--
		}
		n.change.Broadcast()
	}
}

// wait waits until exactly want connections are open.
func (n *connCounter) wait(t *testing.T, want int) {
	t.Helper()
	late := false
	timer := time.AfterFunc(10*time.Second, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		late = true
		n.change.Broadcast()
	})
	defer timer.Stop()
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.open != want {
		if late {
			t.Fatalf("%d connections are open, want %d", n.open, want)
		}
		n.change.Wait()
	}
}

func newConnCounter() *connCounter {
	n := &connCounter{}
	n.change = sync.NewCond(&n.mu)
	return n
}

// inboxes starts n servers, each a host of its own.
func inboxes(t *testing.T, n int, counter *connCounter, http2 bool) []*httptest.Server {
	t.Helper()
	servers := make([]*httptest.Server, n)
	for i := range servers {
		servers[i] = newInbox(t, accept, func(s *httptest.Server) {
			s.EnableHTTP2 = http2
			counter.count(s)
		})
	}
	return servers
}

func TestIdleConnectionsAreBounded(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run("HTTP/2 "+strconv.FormatBool(http2), func(t *testing.T) {
			counter := newConnCounter()
			servers := inboxes(t, 6, counter, http2)
			c := newClient(t, ClientOptions{Policy: loopback, RootCAs: testCA(t).pool, MaxIdle: 2})
			for _, s := range servers {
				if got := c.Post(newPost(t, s.URL)); got.Status != 202 {
					t.Fatalf("got %+v", got)
				}
			}
			counter.wait(t, 2)
			for i, s := range servers { // first the evicted ones, last the kept ones
				if got := c.Post(newPost(t, s.URL)); got.Status != 202 || got.Reused {
					t.Errorf("host %d again: got %+v, want a new connection", i, got)
				}
			}
			if got := c.Post(newPost(t, servers[5].URL)); !got.Reused {
				t.Errorf("latest host: got %+v, want the kept connection", got)
			}
			counter.wait(t, 2)
			c.Close()
			counter.wait(t, 0)
		})
	}
}

// An HTTP/2 connection closed after the transport picked it must not look like a failure of the host.
func TestClosedAtTheWrongMoment(t *testing.T) {
	inbox := newInbox(t, accept)
	c := newClient(t, ClientOptions{Policy: loopback, RootCAs: testCA(t).pool})
	var kept *trackedConn
	post := func(trace httptrace.ClientTrace) Answer {
		return c.Post(newPost(t, inbox.URL).WithContext(httptrace.WithClientTrace(t.Context(), &trace)))
	}
	got := post(httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		kept = info.Conn.(*tls.Conn).NetConn().(*trackedConn)
	}})
	if got.Status != 202 {
		t.Fatalf("got %+v", got)
	}
	got = post(httptrace.ClientTrace{GetConn: func(string) {
		// As if it had been closed, but the transport can't notice before it writes.
		kept.budget.calls.Add(-2 * attemptCalls)
		kept.idle.mu.Lock()
		defer kept.idle.mu.Unlock()
		kept.closed = true
	}})
	if got.Status != 202 || got.Reused {
		t.Errorf("got %+v, want it sent on a new connection", got)
	}
}

// A connection that its host closed takes no place among the idle ones.
func TestClosedConnectionsAreNotIdle(t *testing.T) {
	inbox := newInbox(t, accept)
	rude := serveRaw(t, func(conn net.Conn) { _, _ = readRaw(bufio.NewReader(conn)) })
	c := newClient(t, ClientOptions{Policy: loopback, RootCAs: testCA(t).pool, MaxIdle: 1})
	for i := range 2 {
		if got := c.Post(newPost(t, inbox.URL)); got.Status != 202 || got.Reused != (i > 0) {
			t.Errorf("request %d: got %+v", i, got)
		}
		if got := c.Post(newPost(t, "http://"+rude.String())); got.Err == nil {
			t.Errorf("got %+v from a host that hangs up", got)
		}
	}
}

// Close also ends a connection that is still being opened when its attempt is over.
func TestCloseEndsDials(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	addr := serveRaw(t, func(conn net.Conn) {
		defer close(ended)
		cancel()
		_, _ = io.Copy(io.Discard, conn)
	})
	c := newClient(t, ClientOptions{Policy: loopback, ConnectTimeout: time.Hour})
	if got := c.Post(newPost(t, "https://"+addr.String()).WithContext(ctx)); !errors.Is(got.Err, context.Canceled) {
		t.Errorf("got %+v", got)
	}
	c.Close()
	<-ended
}
