package delivery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"
	"unicode"

	"github.com/postrider/postrider/internal/netguard"
)

// What is read of an answer at most, and what a dead connection may cost.
const (
	maxHead     = 64 << 10
	maxBody     = 64 << 10
	maxLine     = 200 // runes of Answer.Line
	idleTimeout = 90 * time.Second
	pingAfter   = 10 * time.Second // of silence on an HTTP/2 connection in use
	pingTimeout = 5 * time.Second
	tlsSessions = 4096 // remembered for resumption
)

// ClientOptions says how a Client dials and what it keeps. A zero number takes its default.
type ClientOptions struct {
	ConnectTimeout time.Duration    // look-up, connection and TLS handshake together, 5 s
	AttemptTimeout time.Duration    // a whole Post, 30 s
	Policy         *netguard.Policy // the addresses that may be dialled; nil is the public ones
	RootCAs        *x509.CertPool   // nil is the system's
	MaxIdle        int              // connections kept open while unused, in total, 512
	MaxIdlePerHost int              // of those to one host, 4
	Resolver       *net.Resolver    // nil is the default one
}

// Client posts to inboxes that may be slow, broken or hostile. Its methods are safe for concurrent use.
//
// It goes straight to the host (no proxy), follows no redirect, speaks HTTP/2 where offered and TLS 1.2 or later, asks
// for no compression, and reads no more than 64 KiB of an answer's head and 64 KiB of its body.
type Client struct {
	timeout   time.Duration
	transport *http.Transport
	idle      *idleConns
}

// NewClient makes a client. Close it after use.
func NewClient(o ClientOptions) *Client {
	setDefault(&o.ConnectTimeout, 5*time.Second)
	setDefault(&o.AttemptTimeout, 30*time.Second)
	setDefault(&o.MaxIdle, 512)
	setDefault(&o.MaxIdlePerHost, 4)
	d := &dialer{
		timeout:  o.ConnectTimeout,
		policy:   o.Policy,
		resolver: o.Resolver,
		idle:     &idleConns{max: o.MaxIdle},
		tls: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			NextProtos:         []string{"h2", "http/1.1"},
			RootCAs:            o.RootCAs,
			ClientSessionCache: tls.NewLRUClientSessionCache(tlsSessions),
		},
	}
	return &Client{timeout: o.AttemptTimeout, idle: d.idle, transport: &http.Transport{
		DialContext:            d.dial,
		DialTLSContext:         d.dialTLS,
		ForceAttemptHTTP2:      true, // a transport with its own dialler leaves it off
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHead,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    o.MaxIdlePerHost,
		// The bound that counts is idleConns; this one makes the transport forget connections closed long ago.
		MaxIdleConns: 2 * o.MaxIdle,
		HTTP2:        &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}}
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// Close closes the connections that no Post uses, and gives up those being opened for nobody. It is for when the last
// Post has returned.
func (c *Client) Close() {
	c.transport.CloseIdleConnections()
	c.idle.shrink(0) // an HTTP/2 connection may not have noticed yet that it is idle
}

// Answer is what came of one Post.
type Answer struct {
	Status     int    // 200 to 599; 0 if no head came
	Location   string // these three are header fields as they came
	RetryAfter string
	Date       string
	Line       string // the first line of the body of an answer that is not 2xx, at most 200 printable characters
	Err        error  // why no head came; wraps netguard.ErrPrivate if no address of the host may be dialled
	TimedOut   bool   // the time for the connection or the attempt was up, perhaps only while the body was read
	Reused     bool   // the connection was not new
}

// Post sends a request once and returns by the end of its context or of AttemptTimeout. The request is not changed.
//
// Where a connection that was kept open turns out to have been closed meanwhile, and nothing was answered on it, the
// request is sent on another one, if it has GetBody: the host closed the connection because it was idle, and most
// likely never saw the request.
func (c *Client) Post(req *http.Request) Answer {
	ctx, cancel := context.WithTimeout(req.Context(), c.timeout)
	defer cancel()
	req = req.WithContext(ctx)
	req.Header = maps.Clone(req.Header)
	if _, given := req.Header["Idempotency-Key"]; !given {
		// net/http repeats only what it takes for idempotent; a key without a value says so and is not sent.
		req.Header["Idempotency-Key"] = []string{}
	}
	for {
		answer, stale := c.try(req)
		if !stale || answer.Err == nil || ctx.Err() != nil || req.GetBody == nil {
			return answer
		}
		// The transport picked an HTTP/2 connection just when it was closed, perhaps by us to make room: not the
		// host's fault, and nothing was sent.
		body, err := req.GetBody()
		if err != nil {
			return answer
		}
		req.Body = body
	}
}

// try sends the request and tells whether it was given a kept connection that had been closed.
func (c *Client) try(req *http.Request) (_ Answer, stale bool) {
	var l loan
	defer l.end()
	ctx := req.Context()
	trace := &httptrace.ClientTrace{GotConn: l.begin}
	resp, err := c.transport.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, trace)))
	answer := Answer{Reused: l.reused, Err: err}
	if err == nil {
		err = answer.read(resp)
	}
	answer.TimedOut = timedOut(ctx, err)
	return answer, l.stale
}

// read takes from the response what the answer needs, ends it, and returns the error that kept the body from being
// read, if any.
func (a *Answer) read(resp *http.Response) error {
	defer resp.Body.Close() // drops the connection (or HTTP/2 stream) if there is more to come
	// SPEC: RFC 9110, section 15: "Values outside the range 100..599 are invalid." Of the rest of 1xx, only 101 gets
	// here, and nobody asked for it; its body is the bare connection, which no context ends.
	if resp.StatusCode < 200 || resp.StatusCode > 599 {
		a.Err = fmt.Errorf("broken answer: status %q", resp.Status)
		return nil
	}
	a.Status = resp.StatusCode
	a.Location = resp.Header.Get("Location")
	a.RetryAfter = resp.Header.Get("Retry-After")
	a.Date = resp.Header.Get("Date")

	body := io.LimitReader(resp.Body, maxBody)
	start := make([]byte, 4*maxLine)
	n, _ := io.ReadFull(body, start) // its error comes again
	if a.Status > 299 && resp.Header.Get("Content-Encoding") == "" {
		a.Line = firstLine(string(start[:n]))
	}
	_, err := io.Copy(io.Discard, body)
	return err
}

// firstLine returns the first line that is not blank, made safe to be logged and shown.
func firstLine(body string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(body), "\n")
	printable := strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, line)
	if runes := []rune(printable); len(runes) > maxLine {
		printable = string(runes[:maxLine])
	}
	return strings.TrimSpace(printable)
}

// timedOut tells whether err came of a time-out: the context's, whatever cause was given for it, or one further down.
func timedOut(ctx context.Context, err error) bool {
	if err == nil {
		return false
	}
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout() || errors.Is(ctx.Err(), context.DeadlineExceeded)
}

// loan follows the connections that one request is given: one, or more if it has to be repeated.
type loan struct {
	conn   *trackedConn
	reused bool
	stale  bool // kept, and closed before it could be used
}

// begin is called for each connection, by the goroutine that runs RoundTrip.
func (l *loan) begin(info httptrace.GotConnInfo) {
	l.end()
	conn := info.Conn
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	l.conn = conn.(*trackedConn)
	l.reused = info.Reused
	l.stale = !l.conn.acquire() && info.Reused
}

func (l *loan) end() {
	if l.conn != nil {
		l.conn.release()
		l.conn = nil
	}
}
