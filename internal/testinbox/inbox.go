// Package testinbox is a remote inbox for tests and the demo: it verifies signatures, answers as its script says, and
// remembers the requests.
//
// What callers may rely on:
//
//   - Signatures are verified by code that shares nothing with the sender's and uses the standard library only. It is as
//     strict as the strictest receivers in the field: they accept what it accepts.
//   - A request whose signature is bad, missing or of a scheme not accepted is answered 401 with the reason, and never
//     reaches the script.
//   - Every request is remembered before its answer begins.
//   - All is safe for concurrent use.
//
// What callers may not rely on: that requests are remembered in the order in which they were sent; that a request whose
// client has gone is forgotten.
package testinbox

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Scheme is a way to sign requests.
type Scheme string

// The schemes, by the names that hosts are listed with.
const (
	Cavage  Scheme = "cavage"
	RFC9421 Scheme = "rfc9421"
)

// Options say how an inbox behaves. The zero value refuses every request, for it knows no key.
type Options struct {
	// Keys returns the public key of a key ID, or nil: an *rsa.PublicKey or an ed25519.PublicKey.
	Keys func(keyID string) crypto.PublicKey
	// Unsigned accepts every request without a check of its signature; Request.Valid is then always false.
	Unsigned bool
	// Accept lists the schemes that the inbox understands; none means all.
	Accept []Scheme
	// Script returns the answer to a request; nil is always 202. It may be called by many goroutines at once.
	Script func(Request) Reply
	// Keep is how many requests are remembered, the latest; 0 is 10,000.
	Keep int
}

// Request is one request that an inbox got.
type Request struct {
	At         time.Time // when its head was read
	Method     string
	Host       string // as sent, with the port
	Path       string // as sent: escaped, with the query
	Header     http.Header
	ActivityID string // the id in the body; "" if there is none
	BodySize   int
	BodyHash   [sha256.Size]byte
	Scheme     Scheme // "" if it was not signed
	KeyID      string
	Valid      bool   // signed with the key of KeyID, by an accepted scheme, and not stale
	Reason     string // why it is not valid
}

// Reply is what an inbox answers. The zero value is 202 at once.
type Reply struct {
	Status int
	Delay  time.Duration // before anything is sent
	Header http.Header
	Body   string
	Hang   bool // send nothing until the client goes away
	Close  bool // close the connection without an answer, after Delay
}

const (
	defaultKeep = 10_000
	maxBody     = 4 << 20 // four times the largest activity that a node accepts
)

// Inbox is an http.Handler that plays a remote inbox. Make it with New.
type Inbox struct {
	options Options

	mu       sync.Mutex
	log      []Request     // guarded by mu
	count    int           // guarded by mu: of all requests, also those no longer remembered
	grown    chan struct{} // guarded by mu: closed when count grows
	inFlight map[string]gauge
}

type gauge struct{ now, most int }

// New returns an inbox.
func New(o Options) *Inbox {
	if o.Keys == nil {
		o.Keys = func(string) crypto.PublicKey { return nil }
	}
	if o.Script == nil {
		o.Script = func(Request) Reply { return Reply{} }
	}
	if len(o.Accept) == 0 {
		o.Accept = []Scheme{Cavage, RFC9421}
	}
	if o.Keep == 0 {
		o.Keep = defaultKeep
	}
	return &Inbox{options: o, grown: make(chan struct{}), inFlight: map[string]gauge{}}
}

// ServeHTTP implements http.Handler.
func (in *Inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	in.enter(r.Host)
	defer in.leave(r.Host)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	request := in.verify(r, body)
	request.At = at
	in.remember(request)
	if !request.Valid && !in.options.Unsigned {
		http.Error(w, request.Reason, http.StatusUnauthorized)
		return
	}
	in.options.Script(request).send(r.Context(), w)
}

// verify describes a request, and verifies its signature.
func (in *Inbox) verify(r *http.Request, body []byte) Request {
	request := Request{
		Method: r.Method, Host: r.Host, Path: r.RequestURI, Header: r.Header.Clone(),
		BodySize: len(body), BodyHash: sha256.Sum256(body), ActivityID: activityID(body),
	}
	if in.options.Unsigned {
		request.Reason = "not verified"
		return request
	}
	m := message{Request: r, bodyHash: request.BodyHash}
	var err error
	request.Scheme, request.KeyID, err = m.verify(in.options.Keys)
	switch {
	case err != nil:
		request.Reason = err.Error()
	case !slices.Contains(in.options.Accept, request.Scheme):
		request.Reason = fmt.Sprintf("signature scheme %s is not understood", request.Scheme)
	default:
		request.Valid = true
	}
	return request
}

// activityID returns the id of an activity, or "" if the body is none.
func activityID(body []byte) string {
	var activity struct{ ID string }
	if json.Unmarshal(body, &activity) != nil {
		return ""
	}
	return activity.ID
}

// send answers, unless the client leaves first.
func (reply Reply) send(ctx context.Context, w http.ResponseWriter) {
	if !reply.wait(ctx) || reply.Close {
		// net/http's way to end a connection, or a stream of HTTP/2, without an answer.
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), reply.Header)
	status := reply.Status
	if status == 0 {
		status = http.StatusAccepted
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, reply.Body) // an error means that the client has gone
}

// wait waits for Delay or, with Hang, until the client leaves, and reports whether the client is still there.
func (reply Reply) wait(ctx context.Context) bool {
	if reply.Hang {
		<-ctx.Done()
		return false
	}
	if reply.Delay <= 0 {
		return true
	}
	select {
	case <-time.After(reply.Delay):
		return true
	case <-ctx.Done():
		return false
	}
}

func (in *Inbox) enter(host string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	g := in.inFlight[host]
	g.now++
	g.most = max(g.most, g.now)
	in.inFlight[host] = g
}

func (in *Inbox) leave(host string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	g := in.inFlight[host]
	g.now--
	in.inFlight[host] = g
}

func (in *Inbox) remember(r Request) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.log) >= in.options.Keep {
		in.log = in.log[1:]
	}
	in.log = append(in.log, r)
	in.count++
	close(in.grown)
	in.grown = make(chan struct{})
}

// Received returns the remembered requests, in the order in which their bodies were complete.
func (in *Inbox) Received() []Request {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Clone(in.log)
}

// Count returns the number of all requests, also those no longer remembered.
func (in *Inbox) Count() int {
	count, _ := in.progress()
	return count
}

// Wait returns when Count is at least n, or with the context's error.
func (in *Inbox) Wait(ctx context.Context, n int) error {
	for {
		count, grown := in.progress()
		if count >= n {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return fmt.Errorf("wait for %d requests, have %d: %w", n, count, ctx.Err())
		}
	}
}

func (in *Inbox) progress() (int, <-chan struct{}) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.count, in.grown
}

// InFlight returns how many requests are being answered now.
func (in *Inbox) InFlight() (n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, g := range in.inFlight {
		n += g.now
	}
	return n
}

// MaxInFlight returns for each host, as in Request.Host, the most requests that were in flight at once.
func (in *Inbox) MaxInFlight() map[string]int {
	in.mu.Lock()
	defer in.mu.Unlock()
	most := make(map[string]int, len(in.inFlight))
	for host, g := range in.inFlight {
		most[host] = g.most
	}
	return most
}
