package delivery

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/postrider/postrider/internal/testinbox"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

// nothing signs and posts without doing either.
type nothing struct{}

func (nothing) Sign(context.Context, *http.Request, signer.Params) (signer.Scheme, error) {
	return signer.Cavage, nil
}

func (nothing) Post(*http.Request) Answer { return Answer{Status: http.StatusAccepted} }

// BenchmarkAttempt is what an attempt costs beside the signature and the POST: without spans, and with spans of which none
// or all are sampled.
func BenchmarkAttempt(b *testing.B) {
	none := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	all := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.AlwaysSample()))
	for name, tracer := range map[string]trace.Tracer{"off": nil, "none": none.Tracer(""), "all": all.Tracer("")} {
		b.Run(name, func(b *testing.B) {
			p := NewPool(Options{Signer: nothing{}, Client: nothing{}, AttemptTimeout: time.Minute, UserAgent: "Postrider/test", Tracer: tracer})
			d := queue.Delivery{Inbox: "https://one.example/inbox", Activity: &queue.Activity{KeyID: testKey, Body: []byte("{}"), Trace: testTrace}}
			b.ReportAllocs()
			for b.Loop() {
				a := attempt{delivery: d, how: approach{known: signer.Cavage}}
				if a.makeTraced(b.Context(), p); a.outcome != OutcomeDelivered {
					b.Fatal(a.outcome)
				}
			}
		})
	}
}

// BenchmarkReport is what it costs to count and log an attempt that succeeded at once.
func BenchmarkReport(b *testing.B) {
	p := NewPool(Options{Metrics: NewMetrics(prometheus.NewRegistry(), "none"), Log: slog.New(slog.DiscardHandler)})
	a := attempt{
		delivery: queue.Delivery{Activity: &queue.Activity{CreatedAt: time.Now()}}, outcome: OutcomeDelivered,
		answer: Answer{Status: http.StatusAccepted}, began: time.Now(), took: 200 * time.Millisecond,
	}
	b.ReportAllocs()
	for b.Loop() {
		p.report(&a, queue.Result{Verdict: queue.Delivered})
	}
}

// BenchmarkPost is what a POST costs on a connection that is kept, by HTTP/2, with its host in the same process.
func BenchmarkPost(b *testing.B) {
	fleet, err := testinbox.StartTLSFleet(1, func(int) http.Handler { return accept })
	if err != nil {
		b.Fatal(err)
	}
	defer fleet.Close()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(fleet.CA())
	c := NewClient(ClientOptions{Policy: loopback, RootCAs: roots})
	defer c.Close()
	b.ReportAllocs()
	for b.Loop() {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, fleet.Inbox(0, "/inbox"), strings.NewReader(`{"type":"Like"}`))
		if err != nil {
			b.Fatal(err)
		}
		if got := c.Post(req); got.Status != http.StatusAccepted {
			b.Fatalf("%+v", got)
		}
	}
}
