package handlers

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/queue"
)

// hostView shows a host.
type hostView struct {
	Host            string      `json:"host" example:"one.example"`
	State           string      `json:"state" enum:"healthy,throttled,refusing,failing,open,unavailable,paused,blocked"`
	Pending         int         `json:"pending"`
	InFlight        int         `json:"in_flight"`
	OldestPendingAt string      `json:"oldest_pending_at,omitempty" format:"date-time"`
	ChangedAt       string      `json:"changed_at,omitempty" format:"date-time" doc:"when the state last changed; absent if it never did"`
	Breaker         breakerView `json:"breaker"`
	FailureDays     int         `json:"failure_days" doc:"distinct UTC days with failures and no success since"`
	FailedOn        []string    `json:"failed_on" format:"date" nullable:"false" doc:"these days"`
	Refusals        int         `json:"refusals" doc:"answers in a row that were 3xx or 4xx, but for 404, 410 and 429"`
	SignatureScheme string      `json:"signature_scheme" enum:"unknown,cavage,rfc9421"`
	LastSuccessAt   string      `json:"last_success_at,omitempty" format:"date-time" doc:"when it last answered with a 2xx"`
	LastAnswerAt    string      `json:"last_answer_at,omitempty" format:"date-time" doc:"when it last answered, with any status"`
	LastError       *attempt    `json:"last_error,omitempty" doc:"the last attempt that was not answered with a 2xx"`

	Orders []*orderView `json:"orders,omitempty" nullable:"false" doc:"pauses and blocks that hold: pauses first, and the host's own before those that cover it"`
}

// breakerView shows a host's breaker.
type breakerView struct {
	State    string `json:"state" enum:"closed,open,half_open"`
	Failures int    `json:"consecutive_failures"`
	RetryAt  string `json:"retry_at,omitempty" format:"date-time" doc:"when the host is tried again"`
}

// sortByName is how a call names queue.ByName.
const sortByName queue.HostSort = "name"

var hostSorts = []queue.HostSort{sortByName, queue.ByPending, queue.ByOldest}

func hostFilter(q *query) queue.HostFilter {
	f := queue.HostFilter{
		State: oneOf(q, "state", queue.HostStates), Query: strings.ToLower(q.Get("q")), ChangedSince: q.time("changed_since"),
		Sort: oneOf(q, "sort", hostSorts),
	}
	if f.Sort == sortByName {
		f.Sort = queue.ByName
	}
	return f
}

func (s *server) getHost(r *http.Request, _ []byte) (reply, error) {
	host, err := pathHost(r)
	if err != nil {
		return reply{}, err
	}
	status, err := s.Queue.Host(r.Context(), host)
	return reply{Status: http.StatusOK, Body: hostViewOf(&status)}, err
}

// hostsReset is the answer of resetHosts: how many hosts that were.
type hostsReset struct {
	Reset int `json:"reset" example:"12"`
}

// resetHosts resets all hosts in a state.
func (s *server) resetHosts(r *http.Request, _ []byte) (reply, error) {
	q := queryOf(r)
	state := oneOf(q, "state", queue.HostStates)
	if state == "" {
		q.refuse("state", isMissing)
	}
	if q.err != nil {
		return reply{}, q.err
	}
	n, err := s.Queue.ResetHosts(r.Context(), state)
	s.actedOnMany(r.Context(), queue.Event{Action: queue.ActionResetHosts, Count: n, Filter: &queue.ActionFilter{State: state}})
	return reply{Status: http.StatusOK, Body: hostsReset{n}}, err
}

func hostViewOf(h *queue.HostStatus) hostView {
	rec := h.Record
	return hostView{
		Host: h.Host, State: string(h.State), Pending: h.Pending, InFlight: h.InFlight,
		OldestPendingAt: stamp(h.OldestPendingAt), ChangedAt: stamp(h.ChangedAt),
		Breaker: breakerView{
			State: h.BreakerState().String(), Failures: rec.Breaker.Failures, RetryAt: stamp(h.RetryAt),
		},
		FailureDays: rec.Breaker.FailureDays(), FailedOn: views(rec.Breaker.FailedOn(), dateOf), Refusals: rec.Refusals,
		SignatureScheme: cmp.Or(rec.Scheme, "unknown"), LastSuccessAt: stamp(rec.LastSuccess), LastAnswerAt: stamp(rec.LastAnswer),
		LastError: attemptView(rec.LastError), Orders: views(h.Orders, orderViewOf),
	}
}

func dateOf(day *time.Time) string { return day.Format(time.DateOnly) }

// pathHost is the host in the path, normalised. The router matches the path as it was sent, if that was escaped in
// another way than Go would have done it.
func pathHost(r *http.Request) (string, error) {
	host := chi.URLParam(r, "host")
	if r.URL.RawPath != "" {
		var err error
		if host, err = url.PathUnescape(host); err != nil {
			return "", invalid("path.host", flaw{codeMalformed, "is not escaped well"})
		}
	}
	return normalised("path.host", host)
}

// normalised brings a host into the form of lane names.
func normalised(location, host string) (string, error) {
	name, err := netguard.NormaliseHost(host)
	if err == nil {
		return name, nil
	}
	if refusal, ok := errors.AsType[*netguard.Refusal](err); ok {
		return "", invalid(location, flaw{codeInvalidValue, refusal.Detail})
	}
	return "", invalid(location, flaw{codeInvalidValue, "is not a host"})
}
