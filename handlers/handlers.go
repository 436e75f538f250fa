// Package handlers is Postrider's HTTP API: it takes activities and keys in, tells what became of deliveries and how
// hosts are, and serves health, metrics, the OpenAPI document and the dashboard.
//
// What callers may rely on:
//
//   - An activity is stored byte for byte as it came, and a 202 is sent only after all of it is durable.
//   - Every error is an application/problem+json document (RFC 9457) whose errors name the place of each fault in the
//     request; no input makes a 5xx, only a store that is away, full or busy does, and a fault of our own.
//   - A private key never shows in an answer, an error or a log line; nor does the text of an error of the store.
//   - Events are told as they happen, each at most once; whoever reads them too slowly misses some or is let go. At most
//     100 listen at one time.
//   - The bodies of calls held in memory at one time are bounded (128 MiB), whatever the clients do.
//   - The document at /openapi.json is made from the table of routes and the Go types that serve.
//   - The dashboard at / is no part of the API: it holds no data, needs no token, and loads nothing from elsewhere.
//
// What callers may not rely on: the wording of titles, details and messages; the order of members; a body being read
// at all where the answer is 401, 413 or 415.
//
// Nothing here starts a goroutine, and the handler needs no closing; Options.Life ends what would go on for ever.
package handlers

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"golang.org/x/sync/semaphore"

	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/internal/seldom"
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
	// Tokens are the bearer tokens; without any, everybody may call.
	Tokens []Token
	// DeliveryTTL is how long a delivery may take where a call doesn't say, 0 is 72 h.
	DeliveryTTL time.Duration
	// Metrics serves /metrics; without it there is no such route.
	Metrics http.Handler
	// Ready says why the node can't work just now, or nil. Its text is shown to whoever asks /readyz, unlike that of
	// all other errors. Without it, Queue.Ready is asked and its error kept for the log.
	Ready func(context.Context) error
	// Life is the node's: streams of events end when it does, which lets http.Server.Shutdown return. nil is for ever.
	Life context.Context
	// Node tells what the node did, for /v1/stats; without it, only the store's totals are told.
	Node    func() NodeStats
	Version string       // shown in the stats and the OpenAPI document
	Log     *slog.Logger // nil is slog.Default
}

// Token is a bearer token. Name tells callers apart, in the log and for idempotency; it is no secret.
type Token struct{ Name, Secret string }

const (
	storeTimeout = 30 * time.Second // bounds the work of a call once its body was read
	bulkTimeout  = 10 * time.Minute // that of a call which may change everything, step by step
)

// server is what the endpoints share.
type server struct {
	Options
	bodies    *bodies
	tokens    tokens
	listeners *semaphore.Weighted
	seldom    seldom.Gate // for lines about refusals
}

// New makes the API's handler. It is safe for concurrent use and panics if a required option is missing.
func New(o Options) http.Handler { return newServer(o).handler() }

func newServer(o Options) *server {
	if o.Queue == nil || o.Sealer == nil {
		panic("handlers: Queue and Sealer are required")
	}
	o.DeliveryTTL = cmp.Or(o.DeliveryTTL, 72*time.Hour)
	o.Log = cmp.Or(o.Log, slog.Default())
	o.Life = cmp.Or(o.Life, context.Background())
	return &server{
		Options: o, bodies: newBodies(), tokens: digests(o.Tokens), listeners: semaphore.NewWeighted(maxListeners),
	}
}

// handler puts the table of routes on a router.
func (s *server) handler() http.Handler {
	mux := chi.NewRouter()
	mux.Use(s.observe, s.authenticate)
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

// serve wraps an endpoint: body in, JSON or problem out.
func (s *server) serve(rt route) http.Handler {
	if rt.raw != nil {
		return rt.raw
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limit := rt.limit
		if rt.optional && r.ContentLength == 0 {
			limit = 0
		}
		body, release, err := s.bodies.read(w, r, limit) //nolint:contextcheck // grow takes it from the request
		if err != nil {
			s.fail(w, r, err)
			return
		}
		defer release()
		ctx, cancel := context.WithTimeout(r.Context(), cmp.Or(rt.timeout, storeTimeout))
		defer cancel()
		rep, err := rt.serve(r.WithContext(ctx), body)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		write(w, rep, "application/json")
	})
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
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(rep.Status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	// An error here is the client's connection, which is gone.
	_ = enc.Encode(rep.Body)
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
