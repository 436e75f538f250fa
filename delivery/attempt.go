package delivery

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

// contentType is what nearly every receiver takes.
// SPEC: ActivityPub 7: the profile form of application/ld+json is a MUST for clients, but servers SHOULD treat
// application/activity+json as equal; some take only this one.
const contentType = "application/activity+json"

// acceptForms names the forms of an answer that we would understand, though answers are thrown away.
const acceptForms = "application/activity+json, application/ld+json, */*;q=0.1"

// attempt is one attempt and what came of it.
type attempt struct {
	delivery queue.Delivery
	permit   breaker.Permit
	outcome  Outcome
	answer   Answer
	how      approach
	scheme   signer.Scheme // that the host took, as it was asked to, "" if that was not seen
	refused  bool          // the host answered 401 to both schemes
	began    time.Time
	took     time.Duration
	span     trace.Span // nil if the pool makes none
}

// attempt makes one attempt and reports it to the turn.
func (t *turn) attempt(d queue.Delivery, permit breaker.Permit, how approach) {
	p := t.pool
	p.Metrics.inFlight.Add(1)
	defer p.Metrics.inFlight.Add(-1)
	a := attempt{delivery: d, permit: permit, how: how, began: time.Now()}
	a.makeTraced(t.work, p)
	t.done <- a
}

// makeTraced makes the attempt, in a span if the pool makes spans.
func (a *attempt) makeTraced(ctx context.Context, p *Pool) {
	ctx, a.span = p.startSpan(ctx, &a.delivery)
	a.tryToMake(ctx, p)
	a.took = time.Since(a.began)
	a.endSpan()
}

// tryToMake makes the attempt. A panic concerns this one only: it is a fault.
func (a *attempt) tryToMake(ctx context.Context, p *Pool) {
	defer func() {
		if v := recover(); v != nil {
			a.fail(context.WithoutCancel(ctx), newPanicError(v))
		}
	}()
	a.make(ctx, p)
}

// make sends a request, and a second one signed by the other scheme where that may help.
func (a *attempt) make(ctx context.Context, p *Pool) {
	first := a.how.first()
	k := requests{pool: p, delivery: &a.delivery}
	defer k.close()
	answer, used, err := k.post(ctx, first)
	if err != nil {
		a.fail(ctx, err)
		return
	}
	if used != first { // the key can't sign by any other scheme, so this shows nothing of what the host takes
		a.take(ctx, answer, "")
		return
	}
	a.take(ctx, answer, used)
	if a.how.again(answer.Status, a.delivery.Activity.Final) {
		a.askAgain(ctx, &k, other(first))
	}
}

// askAgain sends a request signed by the other scheme. Its answer counts only if it shows that this scheme works.
func (a *attempt) askAgain(ctx context.Context, k *requests, scheme signer.Scheme) {
	k.exact = true
	answer, _, err := k.post(ctx, scheme)
	switch {
	case errors.Is(err, errNotMade):
	case err != nil:
		a.fail(ctx, err)
	case answer.Status == http.StatusUnauthorized:
		a.refused = a.answer.Status == http.StatusUnauthorized
	default:
		if o := outcomeOf(answer); o == OutcomeDelivered || o == OutcomeThrottled || answer.Status == 0 {
			a.take(ctx, answer, scheme)
		}
	}
}

// take takes an answer as what came of the attempt, and as what the host says to a scheme, unless that is "".
func (a *attempt) take(ctx context.Context, answer Answer, asked signer.Scheme) {
	a.answer, a.outcome = answer, outcomeOf(answer)
	if answer.Status == 0 && ctx.Err() != nil {
		a.outcome = OutcomeAborted
	}
	if a.outcome == OutcomeDelivered {
		a.scheme = asked
	}
}

// fail ends an attempt that could not be made.
func (a *attempt) fail(ctx context.Context, err error) {
	a.answer = Answer{Err: err}
	switch {
	case ctx.Err() != nil:
		a.outcome = OutcomeAborted
	case errors.Is(err, signer.ErrKeyMissing):
		a.outcome = OutcomeKeyMissing
	default:
		a.outcome = OutcomeFault
	}
}

// errNotMade means that a second request was not made: the attempt's time was up before, because we were slow, or the
// key can't sign by the other scheme. The answer to the first one counts.
var errNotMade = errors.New("there is no second request")

// requests sends the requests of one attempt, which share its time-out. That begins with the first request: what goes before
// is our own time.
type requests struct {
	pool     *Pool
	delivery *queue.Delivery
	deadline context.Context // its clock runs from the first request on
	cancel   context.CancelFunc
	exact    bool // sign by the scheme asked for or not at all: an Ed25519 key signs by RFC 9421 only
}

func (k *requests) close() {
	if k.cancel != nil {
		k.cancel()
	}
}

// post signs and sends one request, and follows one redirect on the same host. An error means that nothing was sent.
func (k *requests) post(ctx context.Context, scheme signer.Scheme) (Answer, signer.Scheme, error) {
	answer, used, err := k.send(ctx, k.delivery.Inbox, scheme)
	if err != nil || answer.Status != http.StatusTemporaryRedirect && answer.Status != http.StatusPermanentRedirect {
		return answer, used, err
	}
	target, ok := k.pool.redirect(k.delivery.Inbox, answer.Location)
	if !ok {
		return answer, used, nil
	}
	again, by, err := k.send(ctx, target, scheme)
	if errors.Is(err, errNotMade) {
		return answer, used, nil
	}
	return again, by, err
}

func (k *requests) send(ctx context.Context, target string, scheme signer.Scheme) (Answer, signer.Scheme, error) {
	d, p := k.delivery, k.pool
	if k.deadline == nil {
		k.deadline, k.cancel = withClock(ctx, p.AttemptTimeout)
	}
	req, err := http.NewRequestWithContext(k.deadline, http.MethodPost, target, bytes.NewReader(d.Activity.Body))
	if err != nil {
		return Answer{}, "", err
	}
	req.Header.Set("Accept", acceptForms)
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("User-Agent", p.UserAgent)
	signed := make([]string, len(d.Headers))
	for i, h := range d.Headers {
		req.Header.Set(h.Name, h.Value)
		signed[i] = h.Name
	}
	params := signer.Params{KeyID: d.Activity.KeyID, Pin: d.Activity.Pin, Scheme: scheme, Digest: d.Activity.Digest, Headers: signed}
	used, err := p.Signer.Sign(ctx, req, params)
	if err != nil {
		return Answer{}, "", err
	}
	if k.exact && used != scheme {
		return Answer{}, "", errNotMade
	}
	clockOf(k.deadline).start()
	if expired(k.deadline) {
		return Answer{}, "", errNotMade
	}
	return p.Client.Post(req), used, nil
}

// redirect returns where a redirect leads if it stays on the host and on its scheme.
func (p *Pool) redirect(from, location string) (string, bool) {
	base, err := url.Parse(from)
	if err != nil {
		return "", false
	}
	to, err := base.Parse(location)
	if err != nil || location == "" || to.Scheme != base.Scheme {
		return "", false
	}
	here, refusal := netguard.ParseInbox(from, p.AllowHTTP, p.Policy)
	if refusal != nil {
		return "", false
	}
	there, refusal := netguard.ParseInbox(to.String(), p.AllowHTTP, p.Policy)
	return there.URL, refusal == nil && there.Host == here.Host
}
