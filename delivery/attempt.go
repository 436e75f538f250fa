package delivery

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

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
	scheme   signer.Scheme // that worked, "" if none was seen to
	began    time.Time
	took     time.Duration
}

// attempt makes one attempt and reports it to the turn.
func (t *turn) attempt(d queue.Delivery, permit breaker.Permit, known signer.Scheme) {
	p := t.pool
	p.Metrics.inFlight.Add(1)
	defer p.Metrics.inFlight.Add(-1)
	ctx, cancel := context.WithCancelCause(t.held.Context())
	defer cancel(nil)
	defer context.AfterFunc(p.work, func() { cancel(context.Cause(p.work)) })()
	a := attempt{delivery: d, permit: permit, began: time.Now()}
	a.make(ctx, p, known)
	a.took = time.Since(a.began)
	t.done <- a
}

// make knocks, and knocks again with the other scheme where that may help.
func (a *attempt) make(ctx context.Context, p *Pool, known signer.Scheme) {
	first := known
	if first == "" {
		first = signer.Cavage
	}
	k := knock{pool: p, delivery: &a.delivery}
	defer k.close()
	answer, used, err := k.post(ctx, first)
	if err != nil {
		a.fail(ctx, err)
		return
	}
	a.take(ctx, answer, used)
	if !a.again(known) {
		return
	}
	other := signer.RFC9421
	if used == signer.RFC9421 {
		other = signer.Cavage
	}
	// An Ed25519 key signs by RFC 9421 only: it has no other scheme to knock with.
	answer, now, err := k.post(ctx, other)
	switch {
	case errors.Is(err, errLate):
	case err != nil:
		a.fail(ctx, err)
	case now != used:
		if o := outcomeOf(answer); o == OutcomeDelivered || o == OutcomeThrottled || answer.Status == 0 {
			a.take(ctx, answer, now)
		}
	}
}

// again tells whether the other scheme may help.
func (a *attempt) again(known signer.Scheme) bool {
	switch a.answer.Status {
	case http.StatusUnauthorized:
		return true
	case http.StatusBadRequest:
		return known == ""
	}
	return false
}

// take takes an answer as what came of the attempt.
func (a *attempt) take(ctx context.Context, answer Answer, used signer.Scheme) {
	a.answer, a.outcome = answer, outcomeOf(answer)
	if answer.Status == 0 && ctx.Err() != nil {
		a.outcome = OutcomeAborted
	}
	if a.outcome == OutcomeDelivered {
		a.scheme = used
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

// errLate means that the attempt's time was up before its second request could be made, because we were slow: what the
// first one brought counts.
var errLate = errors.New("no time left for a second request")

// knock makes the requests of one attempt, which share its time-out. It begins with the first request: what goes before
// is our own time.
type knock struct {
	pool     *Pool
	delivery *queue.Delivery
	deadline context.Context
	cancel   context.CancelFunc
}

func (k *knock) close() {
	if k.cancel != nil {
		k.cancel()
	}
}

// post signs and sends one request, and follows one redirect on the same host. An error means that nothing was sent.
func (k *knock) post(ctx context.Context, scheme signer.Scheme) (Answer, signer.Scheme, error) {
	answer, used, err := k.send(ctx, k.delivery.Inbox, scheme)
	if err != nil || answer.Status != http.StatusTemporaryRedirect && answer.Status != http.StatusPermanentRedirect {
		return answer, used, err
	}
	target, ok := k.pool.redirect(k.delivery.Inbox, answer.Location)
	if !ok {
		return answer, used, nil
	}
	again, by, err := k.send(ctx, target, scheme)
	if errors.Is(err, errLate) {
		return answer, used, nil
	}
	return again, by, err
}

func (k *knock) send(ctx context.Context, target string, scheme signer.Scheme) (Answer, signer.Scheme, error) {
	d, p := k.delivery, k.pool
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(d.Activity.Body))
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
	params := signer.Params{KeyID: d.Activity.KeyID, Scheme: scheme, Digest: d.Activity.Digest, Headers: signed}
	used, err := p.Signer.Sign(ctx, req, params)
	if err != nil {
		return Answer{}, "", err
	}
	if k.deadline == nil {
		k.deadline, k.cancel = context.WithTimeout(ctx, p.AttemptTimeout)
	}
	if errors.Is(k.deadline.Err(), context.DeadlineExceeded) {
		return Answer{}, "", errLate
	}
	return p.Client.Post(req.WithContext(k.deadline)), used, nil
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
