package delivery

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

// nothing signs and posts without doing either.
type nothing struct{}

func (nothing) Sign(context.Context, *http.Request, signer.Params) (signer.Scheme, error) {
	return signer.Cavage, nil
}

func (nothing) Post(*http.Request) Answer { return Answer{Status: http.StatusAccepted} }

// BenchmarkAttempt is what an attempt costs beside the signature and the POST.
func BenchmarkAttempt(b *testing.B) {
	p := NewPool(Options{Signer: nothing{}, Client: nothing{}, AttemptTimeout: time.Minute, UserAgent: "Postrider/test"})
	d := queue.Delivery{Inbox: "https://one.example/inbox", Activity: &queue.Activity{KeyID: testKey, Body: []byte("{}")}}
	b.ReportAllocs()
	for b.Loop() {
		a := attempt{delivery: d}
		if a.make(b.Context(), p, signer.Cavage); a.outcome != OutcomeDelivered {
			b.Fatal(a.outcome)
		}
	}
}
