package delivery

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/netguard"
)

var loopback = netguard.NewPolicy([]netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("::1/128"),
})

var accept = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusAccepted)
})

// testAuthority is a certificate authority for tests.
type testAuthority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

// testCA makes the tests' certificate authority, once.
func testCA(t *testing.T) *testAuthority {
	t.Helper()
	ca, err := makeCA()
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

var makeCA = sync.OnceValues(func() (*testAuthority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	ca := &testAuthority{cert, key, x509.NewCertPool()}
	ca.pool.AddCert(cert)
	return ca, nil
})

// issue makes a certificate for 127.0.0.1, and for names, that is valid until then.
func (ca *testAuthority) issue(t *testing.T, until time.Time, names ...string) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, ca.key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: ca.key}
}

// newInbox starts a server on 127.0.0.1 with TLS and HTTP/2, changed by the options.
func newInbox(t *testing.T, h http.Handler, options ...func(*httptest.Server)) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{testCA(t).issue(t, time.Now().Add(time.Hour))}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, o := range options {
		o(s)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func newClient(t *testing.T, o ClientOptions) *Client {
	t.Helper()
	c := NewClient(o)
	t.Cleanup(c.Close)
	return c
}

func newPost(t *testing.T, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{"type":"Like"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", "Postrider/test")
	return req
}

func TestPostAnswer(t *testing.T) {
	const limit = maxBody
	head := http.Header{"Location": {"/moved"}, "Retry-After": {"120"}, "Date": {"Sun, 06 Nov 1994 08:49:37 GMT"}}
	tests := []struct {
		name     string
		status   int
		encoding string
		body     string
		excerpt  string
	}{
		{"accepted", 202, "", "fine", ""},
		{"largest 2xx", 299, "", "fine", ""},
		{"redirect", 307, "", "", "/moved"},
		{"other redirect", 303, "", "see there", "/moved"},
		{"text", 401, "", "verification failed\n", "verification failed"},
		{"lines", 400, "", "\r\n \n  bad thing \r\nmore\n", "bad thing more"},
		{"not printable", 500, "", "a\x00\x1b[31mb\u202ec\xff\ufeff\td", "a[31mbc d"},
		{"long line", 500, "", strings.Repeat("ż", 300), strings.Repeat("ż", 200)},
		{"compressed", 500, "gzip", "garbage", ""},
		{"long body", 503, "", "busy\n" + strings.Repeat("x", 2*limit), "busy " + strings.Repeat("x", 195)},
		{"strange status", 599, "", "what", "what"},
	}
	var status, encoding, body = 0, "", ""
	inbox := newInbox(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, values := range head {
			w.Header()[name] = values
		}
		if encoding != "" {
			w.Header().Set("Content-Encoding", encoding)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	c := newClient(t, ClientOptions{Policy: loopback, RootCAs: testCA(t).pool})
	for _, tt := range tests {
		status = tt.status
		encoding = tt.encoding
		body = tt.body
		got := c.Post(newPost(t, inbox.URL))
		got.Reused = false
		want := Answer{
			Status: tt.status, Excerpt: tt.excerpt,
			Location: head.Get("Location"), RetryAfter: head.Get("Retry-After"), Date: head.Get("Date"),
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", tt.name, diff)
		}
	}
}

// Four requests at a time on one HTTP/2 connection: the inbox answers none of them before all are there.
func TestPostMultiplexes(t *testing.T) {
	const n = 4
	var all sync.WaitGroup
	var conns sync.Map
	inbox := newInbox(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conns.Store(r.RemoteAddr, r.Proto)
		if r.URL.Path == "/all" {
			all.Done()
			all.Wait()
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	c := newClient(t, ClientOptions{Policy: loopback, RootCAs: testCA(t).pool})
	if got := c.Post(newPost(t, inbox.URL)); got.Status != 202 || got.Reused {
		t.Fatalf("first: got %+v", got)
	}
	all.Add(n)
	var posts sync.WaitGroup
	for range n {
		posts.Go(func() {
			if got := c.Post(newPost(t, inbox.URL+"/all")); got.Status != 202 || !got.Reused {
				t.Errorf("got %+v", got)
			}
		})
	}
	posts.Wait()
	count := 0
	conns.Range(func(_, proto any) bool {
		count++
		if proto != "HTTP/2.0" {
			t.Errorf("spoke %v", proto)
		}
		return true
	})
	if count != 1 {
		t.Errorf("used %d connections, want 1", count)
	}
}

func TestPostTLS(t *testing.T) {
	ca := testCA(t)
	expired := ca.issue(t, time.Now().Add(-time.Minute))
	tests := []struct {
		name   string
		option func(*httptest.Server)
		host   string
		pool   *x509.CertPool
		ok     bool
	}{
		{name: "good", pool: ca.pool, ok: true},
		{name: "TLS 1.2", option: func(s *httptest.Server) { s.TLS.MaxVersion = tls.VersionTLS12 }, pool: ca.pool, ok: true},
		{name: "TLS 1.1", option: func(s *httptest.Server) {
			s.EnableHTTP2 = false
			s.TLS.MinVersion, s.TLS.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		}, pool: ca.pool},
		{name: "HTTP/1.1 only", option: func(s *httptest.Server) { s.EnableHTTP2 = false }, pool: ca.pool, ok: true},
		{name: "unknown authority", pool: x509.NewCertPool()},
		{name: "wrong name", host: "localhost", pool: ca.pool},
		{name: "expired", option: func(s *httptest.Server) { s.TLS.Certificates[0] = expired }, pool: ca.pool},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inbox := newInbox(t, accept, func(s *httptest.Server) {
				if tt.option != nil {
					tt.option(s)
				}
			})
			url := inbox.URL
			if tt.host != "" {
				url = "https://" + tt.host + ":" + portOf(inbox.Listener.Addr())
			}
			got := newClient(t, ClientOptions{Policy: loopback, RootCAs: tt.pool}).Post(newPost(t, url))
			if tt.ok != (got.Status == 202) || tt.ok != (got.Err == nil) || got.TimedOut {
				t.Errorf("got %+v, want accepted: %t", got, tt.ok)
			}
		})
	}
}

// TestSetRootCAs checks that a client goes by the roots set last, also if it has connections and sessions made under
// others.
func TestSetRootCAs(t *testing.T) {
	inbox := newInbox(t, accept)
	c := newClient(t, ClientOptions{Policy: loopback, RootCAs: x509.NewCertPool()})
	for i, trusted := range []bool{false, true, true, false, true} {
		if trusted {
			c.SetRootCAs(testCA(t).pool)
		} else {
			c.SetRootCAs(x509.NewCertPool())
		}
		if got := c.Post(newPost(t, inbox.URL)); trusted != (got.Err == nil) {
			t.Errorf("post %d: %+v, trusted: %t", i+1, got, trusted)
		}
	}
}

func TestPostSchemeMismatch(t *testing.T) {
	plain := httptest.NewServer(accept)
	defer plain.Close()
	secure := newInbox(t, accept)
	c := newClient(t, ClientOptions{Policy: loopback, RootCAs: testCA(t).pool})
	if got := c.Post(newPost(t, strings.Replace(plain.URL, "http:", "https:", 1))); got.Err == nil || got.Status != 0 {
		t.Errorf("https to a port without TLS: got %+v", got)
	}
	if got := c.Post(newPost(t, strings.Replace(secure.URL, "https:", "http:", 1))); got.Status == 202 {
		t.Errorf("http to a port with TLS: got %+v", got)
	}
}

func TestPostResumesSession(t *testing.T) {
	resumed := make(chan bool, 1)
	inbox := newInbox(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { resumed <- r.TLS.DidResume }))
	c := newClient(t, ClientOptions{Policy: loopback, RootCAs: testCA(t).pool})
	for i := range 2 {
		if got := c.Post(newPost(t, inbox.URL)); got.Status != 200 || got.Reused {
			t.Errorf("connection %d: got %+v", i, got)
		}
		if got, want := <-resumed, i > 0; got != want {
			t.Errorf("connection %d resumed: %t, want %t", i, got, want)
		}
		c.Close()
	}
}

// A proxy sees every activity and would be what the address check sees, so none is taken from the environment.
func TestPostUsesNoProxy(t *testing.T) {
	if c := newClient(t, ClientOptions{}); c.transport.Proxy != nil {
		t.Error("the client uses a proxy")
	}
}

// The caller's context ends a Post too; only its deadline is a time-out.
func TestPostContext(t *testing.T) {
	asked := make(chan struct{}, 1)
	inbox := newInbox(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	c := newClient(t, ClientOptions{Policy: loopback, RootCAs: testCA(t).pool})
	shutdown := errors.New("shutdown")

	ctx, stop := context.WithCancelCause(t.Context())
	go func() { <-asked; stop(shutdown) }()
	got := c.Post(newPost(t, inbox.URL).WithContext(ctx))
	if got.TimedOut || !errors.Is(got.Err, shutdown) && !errors.Is(got.Err, context.Canceled) {
		t.Errorf("cancelled: got %+v", got)
	}

	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("attempt took too long"))
	defer cancel()
	if got := c.Post(newPost(t, inbox.URL).WithContext(ctx)); !got.TimedOut || got.Err == nil {
		t.Errorf("deadline: got %+v", got)
	}
}
