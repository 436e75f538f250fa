// Package client calls the HTTP API of a Postrider node.
//
// What callers may rely on:
//   - An activity is delivered byte for byte as it was given.
//   - A call is repeated, with growing pauses, while it gets no answer, 429 or 5xx, until Options.Patience or the context
//     ends; a Retry-After is obeyed. A repetition is harmless: Deliver and Batch send an Idempotency-Key, and every other
//     call may be repeated anyway.
//   - Redirects are not followed, so neither a key nor a token is sent to another server.
//   - A Client is safe for concurrent use, and starts no goroutine.
//
// What callers may not rely on: if Deliver returns an error without an answer of the node (any but an *Error), the node may
// have accepted the call. Call again with the same Call.IdempotencyKey and the same bytes.
//
// The package uses the standard library only.
package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	callTimeout     = time.Minute      // longer than a node takes
	defaultPatience = time.Minute      // for repetitions
	firstPause      = time.Second / 4  // before the first repetition; doubles up to longestPause
	longestPause    = 10 * time.Second // a Retry-After may be longer
	maxAnswer       = 64 << 20         // bytes
)

// ErrNotPostrider means that a successful answer was not one of a Postrider node.
var ErrNotPostrider = errors.New("the answer is not one of a Postrider node: is the URL right?")

// Options are the settings of a Client. Only the URL is needed.
type Options struct {
	URL      string        // of the node, such as http://127.0.0.1:8080
	Token    string        // of its api-tokens, if it has any
	HTTP     *http.Client  // makes the requests; by default one with a time-out of a minute
	Patience time.Duration // how long a call may be repeated; 0 is a minute, less is not at all
}

// Client calls a node.
type Client struct {
	url, token string
	http       http.Client
	patience   time.Duration
}

// New returns a client. It makes no call.
func New(o Options) *Client {
	c := &Client{url: strings.TrimSuffix(o.URL, "/"), token: o.Token, patience: cmp.Or(o.Patience, defaultPatience)}
	c.http.Timeout = callTimeout
	if o.HTTP != nil {
		c.http = *o.HTTP
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c
}

// CloseIdleConnections closes connections that no call uses.
func (c *Client) CloseIdleConnections() { c.http.CloseIdleConnections() }

// Do makes any call of the API. The path includes the query. The body is JSON, or nil. Do decodes the answer into into,
// unless that is nil, and returns its status, which is 2xx if err is nil. It repeats the call like all others, so it is for
// calls that may be repeated.
func (c *Client) Do(ctx context.Context, method, path string, body []byte, into any) (status int, err error) {
	a, err := c.send(ctx, request{method: method, path: path, body: body}, c.patience)
	if err != nil {
		return 0, err
	}
	return a.status, a.decode(into)
}

// request is a call; it may be sent several times.
type request struct {
	method, path string
	media        string // of the body; JSON if it is empty
	key          string // its Idempotency-Key, if it needs one
	body         []byte
	check        func(answer) error // an error of this makes the answer count as a failed call
}

// answer is a 2xx.
type answer struct {
	status int
	header http.Header
	text   []byte
}

func (a answer) decode(into any) error {
	if into != nil && json.Unmarshal(a.text, into) != nil {
		return ErrNotPostrider
	}
	return nil
}

// send sends a request until it gets an answer that repeating cannot change.
func (c *Client) send(ctx context.Context, r request, patience time.Duration) (answer, error) {
	until := time.Now().Add(patience)
	for n := 0; ; n++ {
		a, err := c.try(ctx, r)
		wait, again := pause(n, err)
		if !again || time.Now().Add(wait).After(until) || !sleep(ctx, wait) {
			return a, err
		}
	}
}

// pause returns how long to wait after n repetitions, and whether another one may help.
func pause(n int, err error) (wait time.Duration, again bool) {
	wait = min(firstPause<<min(n, 10), longestPause)
	wait += rand.N(wait / 2)
	switch refused, ok := errors.AsType[*Error](err); {
	case err == nil, errors.Is(err, errRequest):
		return 0, false
	case !ok:
		return wait, true
	default:
		return max(wait, refused.RetryAfter), refused.Temporary()
	}
}

// sleep reports whether ctx was still alive after the pause.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

var errRequest = errors.New("no request can be made")

// try sends a request once.
func (c *Client) try(ctx context.Context, r request) (answer, error) {
	req, err := c.newRequest(ctx, r)
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", errRequest, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, c.noAnswer(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{}, c.noAnswer(err)
	}
	if resp.StatusCode/100 != 2 {
		return answer{}, newError(resp, text)
	}
	a := answer{resp.StatusCode, resp.Header, text}
	if r.check != nil {
		err = r.check(a)
	}
	return a, err
}

func (c *Client) newRequest(ctx context.Context, r request) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, c.url+r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	if r.body != nil {
		req.Header.Set("Content-Type", cmp.Or(r.media, "application/json"))
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if r.key != "" {
		req.Header.Set("Idempotency-Key", r.key)
	}
	return req, nil
}

// noAnswer returns the error of a request that got no answer, or only part of one.
func (c *Client) noAnswer(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // the rest names the path
	}
	return fmt.Errorf("no answer from %s: %w", c.url, err)
}

// encode returns v as JSON, with nothing in it escaped that JSON lets stand.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode the call: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
