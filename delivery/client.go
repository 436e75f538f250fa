package delivery

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/internal/resolver"
)

// Bounds on answers, and on the cost of a dead connection.
const (
	maxHead     = 64 << 10
	maxBody     = 64 << 10
	idleTimeout = 90 * time.Second
	pingAfter   = 10 * time.Second // of silence on an HTTP/2 connection in use
	pingTimeout = 5 * time.Second
	maxReceived = 1 << 20 // bytes of bodies that wait to be read on an HTTP/2 connection
)

// ClientOptions says how a Client dials and what it keeps. A zero number takes its default.
type ClientOptions struct {
	ConnectTimeout time.Duration      // connection and TLS handshake together, 5 s
	AttemptTimeout time.Duration      // a whole Post without the time for looking names up, 30 s
	Policy         *netguard.Policy   // the addresses that may be dialled; nil is the public ones
	RootCAs        *x509.CertPool     // nil is the system's
	MaxIdle        int                // connections kept open while unused, in total, 512
	MaxIdlePerHost int                // of those to one host, 4
	Resolver       *resolver.Resolver // looks names up, in a time of its own; nil is one of the client's own
}

// Client posts to inboxes that may be slow, broken or hostile. Its methods are safe for concurrent use.
//
// It goes straight to the host (no proxy), follows no redirect, speaks HTTP/2 where offered and TLS 1.2 or later, asks
// for no compression, and reads no more than 64 KiB of an answer's head and 64 KiB of its body.
type Client struct {
	timeout   time.Duration
	transport *http.Transport
	http1     *http.Transport // speaks no HTTP/2, for the hosts in onlyHTTP1
	onlyHTTP1 *hostSet
	idle      *idleConns
	trust     *atomic.Pointer[trust]
	late      lateSet
}

// NewClient makes a client. Close it after use.
func NewClient(o ClientOptions) *Client {
	o.ConnectTimeout = cmp.Or(o.ConnectTimeout, 5*time.Second)
	o.AttemptTimeout = cmp.Or(o.AttemptTimeout, 30*time.Second)
	o.MaxIdle = cmp.Or(o.MaxIdle, 512)
	o.MaxIdlePerHost = cmp.Or(o.MaxIdlePerHost, 4)
	if o.Resolver == nil {
		o.Resolver = resolver.New(resolver.Options{})
	}
	d := &dialer{
		timeout:   o.ConnectTimeout,
		policy:    o.Policy,
		resolver:  o.Resolver,
		trust:     new(atomic.Pointer[trust]),
		protocols: []string{"h2", "http/1.1"},
		classic:   newHostSet(oddHosts, oddLasts),
		idle:      &idleConns{max: o.MaxIdle},
	}
	plain := *d
	plain.protocols = []string{"http/1.1"}
	c := &Client{
		timeout: o.AttemptTimeout, trust: d.trust, idle: d.idle, onlyHTTP1: newHostSet(oddHosts, oddLasts),
		late: lateSet{since: map[*exchange]time.Time{}},
	}
	c.transport = newTransport(d, o)
	// The HTTP/2 that net/http brings (Go 1.26) locks up for all hosts when one sends a WINDOW_UPDATE beyond all
	// bounds.
	//lint:ignore SA1019 the replacement is the HTTP/2 that net/http brings
	if _, err := http2.ConfigureTransports(c.transport); err != nil {
		panic(err) // it has HTTP/2 already
	}
	c.http1 = newTransport(&plain, o)
	c.SetRootCAs(o.RootCAs)
	return c
}

func newTransport(d *dialer, o ClientOptions) *http.Transport {
	return &http.Transport{
		DialContext:            d.dial,
		DialTLSContext:         d.dialTLS,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHead,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    o.MaxIdlePerHost,
		// The bound that counts is idleConns; this one makes the transport forget connections closed long ago.
		MaxIdleConns: 2 * o.MaxIdle,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: pingAfter, PingTimeout: pingTimeout,
			WriteByteTimeout:              o.AttemptTimeout, // no goroutine of the transport writes to a mute peer for longer
			MaxReceiveBufferPerStream:     maxBody,
			MaxReceiveBufferPerConnection: maxReceived,
		},
	}
}

// SetRootCAs has the client trust these certificates from now on, nil is the system's. Connections that no Post uses
// are closed, and no TLS session of before is taken up again.
func (c *Client) SetRootCAs(roots *x509.CertPool) {
	c.trust.Store(newTrust(roots))
	c.Close()
}

// Close closes the connections that no Post uses, and stops opening those that no Post waits for. A Post after it opens
// another one.
func (c *Client) Close() {
	c.transport.CloseIdleConnections()
	c.http1.CloseIdleConnections()
	c.idle.shrink(0) // an HTTP/2 connection may not have noticed yet that it is idle
}

// Answer is what came of one Post.
type Answer struct {
	Status     int    // 200 to 599; 0 if no head came
	Location   string // these three are header fields as they came
	RetryAfter string
	Date       string
	Excerpt    string // what an answer that is not 2xx says of the error, fit to be shown (see excerpt)
	Err        error  // why no head came; wraps netguard.ErrPrivate if no address of the host may be dialled
	TimedOut   bool   // the time for the connection or the attempt was up, perhaps only while the body was read
	Reused     bool   // the connection was not new
}

// Post sends a request once and returns by the end of its context or at most a second later. A context that has no clock of
// an attempt ends after AttemptTimeout, which does not run while a name is looked up. The request is not changed. A panic
// becomes an error.
//
// Where a connection that was kept open turns out to have been closed meanwhile, and nothing was answered on it, the
// request is sent on another one, if it has GetBody: the host closed the connection because it was idle, and most
// likely never saw the request.
func (c *Client) Post(req *http.Request) Answer {
	if clockOf(req.Context()) == nil {
		ctx, cancel := withClock(req.Context(), c.timeout)
		defer cancel()
		clockOf(ctx).start()
		req = req.WithContext(ctx)
	}
	return c.begin(req).wait(req.Context())
}

// post sends the request, again where that may help.
func (c *Client) post(req *http.Request, l *loan) Answer {
	ctx := req.Context()
	for {
		answer, again := c.try(req, l)
		if !again || answer.Err == nil || ctx.Err() != nil || req.GetBody == nil {
			return answer
		}
		body, err := req.GetBody()
		if err != nil {
			return answer
		}
		req = req.WithContext(ctx)
		req.Body = body
	}
}

// try sends the request, and reports whether an error is worth another try at once. The transport may have picked a
// kept connection just when it was closed, perhaps by us to make room: not the host's fault, and nothing was sent. Or
// the host wants HTTP/1.1 for this.
func (c *Client) try(req *http.Request, l *loan) (_ Answer, again bool) {
	l.reused, l.stale = false, false
	defer l.end()
	ctx := req.Context()
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		_ = enterAddress(ctx, info.Conn.RemoteAddr().String()) // too late to refuse a connection that was kept open
		l.begin(info)
	}}
	transport := c.transport
	if c.onlyHTTP1.has(req.URL.Host) {
		transport = c.http1
	}
	req = req.WithContext(httptrace.WithClientTrace(ctx, trace))
	req.Header = maps.Clone(req.Header)
	if _, given := req.Header["Idempotency-Key"]; !given {
		// net/http repeats only what it takes for idempotent; a key without a value says so and is not sent.
		req.Header["Idempotency-Key"] = []string{}
	}
	resp, err := transport.RoundTrip(req)
	if errors.Is(err, context.Canceled) && expired(ctx) {
		err = context.DeadlineExceeded
	}
	answer := Answer{Reused: l.reused, Err: err}
	if err == nil {
		// The end of the context wakes neither a reader of the body while the request is still written, nor that
		// writer.
		wake := context.AfterFunc(ctx, func() { _ = resp.Body.Close() })
		watch(ctx, resp)
		err = answer.read(resp)
		wake()
	}
	answer.TimedOut = timedOut(ctx, err)
	if transport == c.transport && wantsHTTP1(answer.Err) {
		c.onlyHTTP1.add(req.URL.Host)
		return answer, true
	}
	return answer, l.stale
}

// wantsHTTP1 reports whether a host that speaks HTTP/2 ended the stream or the connection because it wants HTTP/1.1.
// net/http exports no type for the latter.
// SPEC: RFC 9113, section 7: "HTTP_1_1_REQUIRED (0x0d): The endpoint requires that HTTP/1.1 be used instead of HTTP/2."
func wantsHTTP1(err error) bool {
	return err != nil && strings.Contains(err.Error(), "HTTP_1_1_REQUIRED")
}

// read takes from the response what the answer needs, ends it, and returns the error that kept the body from being
// read, if any.
func (a *Answer) read(resp *http.Response) error {
	defer resp.Body.Close() // drops the connection (or HTTP/2 stream) if there is more to come
	// SPEC: RFC 9110, section 15: "Values outside the range 100..599 are invalid." Of the rest of 1xx, only 101 gets
	// here, and the node did not ask for it; its body is the bare connection, which no context ends.
	if resp.StatusCode < 200 || resp.StatusCode > 599 {
		a.Err = fmt.Errorf("broken answer: status %q", resp.Status)
		return nil
	}
	a.Status = resp.StatusCode
	a.Location = resp.Header.Get("Location")
	a.RetryAfter = resp.Header.Get("Retry-After")
	a.Date = resp.Header.Get("Date")

	body := io.LimitReader(resp.Body, maxBody)
	if a.Status > 299 {
		start, _ := io.ReadAll(io.LimitReader(body, excerptFrom)) // its error comes again
		a.Excerpt = excerpt(a.Status, resp.Header, start)
	}
	_, err := io.Copy(io.Discard, body)
	return err
}

// timedOut reports whether a time-out caused err: the context's, also if it has another cause, or one further down.
func timedOut(ctx context.Context, err error) bool {
	if err == nil {
		return false
	}
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout() || errors.Is(ctx.Err(), context.DeadlineExceeded) || expired(ctx)
}
