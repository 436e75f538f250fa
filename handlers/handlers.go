// Package handlers is Postrider's HTTP API: it takes activities and keys in, shows deliveries and the
// states of hosts, and serves health, metrics, the OpenAPI document and the dashboard.
//
// What callers may rely on:
//
//   - An activity is stored byte for byte as it came, and a 202 is sent only after all of it is durable.
//   - The calls of a batch are accepted in its order as far as that matters to the order of deliveries, and one that
//     fails does not keep the others from being accepted.
//   - Every error is an application/problem+json document (RFC 9457) whose errors name the location of each fault in
//     the request; no input causes a 5xx, only a store that is away, full or busy does, and a fault of the node.
//   - Codes of faults and types of problems are stable. Query parameters and members that a call does
//     not have are refused, not ignored.
//   - A private key never shows in an answer, an error or a log line; nor does the text of an error of the store.
//   - Events are sent as they happen, each at most once. A subscriber that reads them too slowly misses some or is
//     disconnected. There are at most 100 subscribers at one time.
//   - The bodies of calls held in memory at one time are bounded (128 MiB). If there are several tokens, so is the
//     share of each token in that and in the subscribers.
//   - A client that takes nothing of its answer for 10 s is cut off.
//   - A web page of another origin changes nothing through a browser and, where there are no tokens, nor does a page
//     whose name was made to point to this machine.
//   - The document at /openapi.json is made from the table of routes and the Go types that serve.
//   - The dashboard at / is no part of the API: it holds no data, needs no token, and loads nothing from elsewhere.
//
// What callers may not rely on: the wording of titles, details and messages; the order of members; a body being read
// at all where the answer is 401, 413 or 415.
//
// No goroutine that is started here outlives its request, and the handler needs no closing; Options.Life ends streams.
package handlers

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"go.opentelemetry.io/otel/trace"

	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/internal/telemetry"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

// Options says what the API works with. Queue and Sealer are required.
type Options struct {
	Queue  queue.Queue
	Sealer *signer.Sealer // seals private keys before they reach the queue
	Policy *netguard.Policy
	// AllowHTTP accepts http:// inboxes.
	AllowHTTP bool
	// Tokens are the bearer tokens; without any, every client may call.
	Tokens []Token
	// DeliveryTTL is how long a delivery may take where a call doesn't say, 0 is 72 h.
	DeliveryTTL time.Duration
	// FeedDelivered says that the feed has entries for what is delivered.
	FeedDelivered bool
	// Metrics count what the API does; nil counts nothing.
	Metrics *Metrics
	// Scrape serves /metrics; without it there is no such route.
	Scrape http.Handler
	// Ready returns why the node can't work just now, or nil. Callers of /readyz with a token get the error's text, and
	// all others the reason only, a word such as store. Without Ready, Queue.Ready is asked and its error kept for the
	// log.
	Ready func(context.Context) (reason string, err error)
	// Life is the node's: streams of events end when it does, which lets http.Server.Shutdown return. nil never ends.
	Life context.Context
	// Node returns what the node did, for /v1/stats; without it, only the store's totals are shown.
	Node func() NodeStats
	// Forget drops what the node keeps in memory of the keys under an ID, when they are removed; it may be nil.
	Forget func(keyID string)
	// Tracer makes a span for each call that sends activities; nil makes none, at no cost.
	Tracer  trace.Tracer
	Version string       // shown in the stats and the OpenAPI document
	Log     *slog.Logger // nil is slog.Default
}

const (
	storeTimeout = 30 * time.Second // bounds the work of a call once its body was read
	bulkTimeout  = 10 * time.Minute // that of a call which may change everything, step by step
)

// server is what the endpoints share.
type server struct {
	Options
	bodies      *bodies
	tokens      atomic.Pointer[tokens]
	subscribers *shares           // of the events
	logSampler  telemetry.Sampler // for lines about refusals
}

// API is the API's handler. It is safe for concurrent use.
type API struct {
	http.Handler
	server *server
}

// New makes the API's handler. It panics if a required option is missing.
func New(o Options) *API {
	s := newServer(o)
	return &API{s.handler(), s}
}

// SetTokens replaces the tokens. Event streams that run already go on.
func (a *API) SetTokens(list []Token) { a.server.setTokens(list) }

// setTokens replaces the tokens.
func (s *server) setTokens(list []Token) {
	ts := digests(list)
	s.tokens.Store(&ts)
	count := int64(max(1, len(list)))
	s.subscribers.divide(max(1, maxSubscribers/count))
	s.bodies.room.divide(max(maxCall, maxBodies/count)) // of two large calls at a time, one is left to others
}

func newServer(o Options) *server {
	if o.Queue == nil || o.Sealer == nil {
		panic("handlers: Queue and Sealer are required")
	}
	o.DeliveryTTL = cmp.Or(o.DeliveryTTL, 72*time.Hour)
	o.Log = cmp.Or(o.Log, slog.Default())
	o.Life = cmp.Or(o.Life, context.Background())
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	s := &server{
		Options: o, subscribers: newShares(maxSubscribers),
		bodies: &bodies{room: newShares(maxBodies), wait: bodyWait, timeout: bodyTimeout},
	}
	s.setTokens(o.Tokens)
	return s
}

// handler puts the table of routes on a router.
func (s *server) handler() http.Handler {
	mux := chi.NewRouter()
	mux.Use(s.observe, s.protect, s.authenticate)
	mux.NotFound(func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, &problem{Status: http.StatusNotFound, Detail: "there is no such route"})
	})
	mux.MethodNotAllowed(s.methodNotAllowed)
	for _, rt := range s.routes() {
		mux.Method(rt.method, rt.path, s.serve(rt))
		if rt.method == http.MethodGet {
			mux.Method(http.MethodHead, rt.path, s.serve(rt))
		}
	}
	mountDashboard(mux)
	return mux
}

// reply is the answer of an endpoint: Body is sent as JSON, unless it is nil.
type reply struct {
	Status int
	Header map[string]string
	Body   any
}

// endpoint answers a request whose body, if its route has one, was read already.
type endpoint func(r *http.Request, body []byte) (reply, error)

// serve serves a route: the token has to allow it, and what stands in the query has to be in the table.
func (s *server) serve(rt route) http.Handler {
	next := rt.raw
	if next == nil {
		next = s.answer(rt)
	}
	next = s.traced(rt, next)
	name := rt.method + " " + rt.path
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := visitOf(r)
		v.route = name
		err := rt.checkScope(v)
		if err == nil {
			err = rt.checkQuery(r.URL.RawQuery)
		}
		if err != nil {
			s.fail(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// answer wraps an endpoint: body in, JSON or problem out.
func (s *server) answer(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, release, err := s.bodyOf(w, r, rt)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		rep, err := rt.work(r, body, release)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		write(w, rep, "application/json")
	})
}

// work has the endpoint of a route work on a request whose body was read, and releases the room of the body: a caller
// that does not read its answer takes none. Errors of the store need no other context than the name of the operation.
func (rt *route) work(r *http.Request, body []byte, release func()) (reply, error) {
	defer release()
	ctx, cancel := context.WithTimeout(r.Context(), cmp.Or(rt.timeout, storeTimeout))
	defer cancel()
	rep, err := rt.serve(r.WithContext(queue.WithCaller(ctx, visitOf(r).token)), body)
	if err != nil {
		err = fmt.Errorf("%s: %w", rt.id, err)
	}
	return rep, err
}

// bodyOf reads the body of a request. Where the route has none, one may come only if it says nothing.
func (s *server) bodyOf(w http.ResponseWriter, r *http.Request, rt route) (body []byte, release func(), err error) {
	limit := rt.limit
	none := rt.limit == 0 && rt.method != http.MethodGet
	if none {
		limit = maxNoBody
	}
	if (rt.optional || none) && r.ContentLength == 0 {
		limit = 0
	}
	body, release, err = s.bodies.read(w, r, limit, jsonTypes)
	if err == nil && none && len(body) > 0 {
		if err = unmarshal("body", body, &struct{}{}); err != nil {
			release()
		}
	}
	return body, release, err
}

// write sends a reply. Its body is one of our own types, so that it can't fail to marshal.
func write(w http.ResponseWriter, rep reply, contentType string) {
	for name, value := range rep.Header {
		w.Header().Set(name, value)
	}
	if rep.Body == nil {
		w.WriteHeader(rep.Status)
		return
	}
	asIs, isBytes := bytesTypes[reflect.TypeOf(rep.Body)]
	w.Header().Set("Content-Type", cmp.Or(asIs, contentType))
	w.WriteHeader(rep.Status)
	// An error here is the client's connection, which is gone.
	if isBytes {
		_, _ = w.Write(reflect.ValueOf(rep.Body).Bytes())
	} else {
		_ = encode(w, rep.Body)
	}
}

// bytesTypes are the media types of answers that are sent as they are.
var bytesTypes = map[reflect.Type]string{
	reflect.TypeFor[sentBytes](): activityType, reflect.TypeFor[profileBytes](): profileType,
}

// encode writes v as a line of JSON, with nothing in it escaped that JSON lets stand.
func encode(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func (s *server) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	path := cmp.Or(r.URL.RawPath, r.URL.Path)
	routes := chi.RouteContext(r.Context()).Routes
	for _, m := range []string{"GET", "HEAD", "POST", "PUT", "DELETE"} {
		if routes.Match(chi.NewRouteContext(), m, path) {
			w.Header().Add("Allow", m)
		}
	}
	s.fail(w, r, &problem{Status: http.StatusMethodNotAllowed, Detail: "the route does not take " + r.Method})
}
