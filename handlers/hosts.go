package handlers

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/queue"
)

// hostView shows a host.
type hostView struct {
	Host            string      `json:"host" example:"one.example"`
	State           string      `json:"state" enum:"healthy,failing,open,unavailable,paused,blocked"`
	Pending         int         `json:"pending"`
	InFlight        int         `json:"in_flight"`
	OldestPendingAt string      `json:"oldest_pending_at,omitempty" format:"date-time"`
	Breaker         breakerView `json:"breaker"`
	FailureDays     int         `json:"failure_days" doc:"distinct UTC days with failures and no success since"`
	SignatureScheme string      `json:"signature_scheme" enum:"unknown,cavage,rfc9421"`
	LastSuccessAt   string      `json:"last_success_at,omitempty" format:"date-time"`
	LastError       *attempt    `json:"last_error,omitempty"`
}

// breakerView shows a host's breaker.
type breakerView struct {
	State    string `json:"state" enum:"closed,open,half_open"`
	Failures int    `json:"consecutive_failures"`
	RetryAt  string `json:"retry_at,omitempty" format:"date-time" doc:"when the host is tried again"`
}

func (s *server) listHosts(r *http.Request, _ []byte) (reply, error) {
	p, err := pageOf(r)
	if err != nil {
		return reply{}, err
	}
	q := r.URL.Query()
	state, err := oneOf(q, "state", queue.HostStates)
	if err != nil {
		return reply{}, err
	}
	list, err := s.Queue.Hosts(r.Context(), queue.HostFilter{State: state, Query: strings.ToLower(q.Get("q"))}, p)
	if err != nil {
		return reply{}, fmt.Errorf("list hosts: %w", err)
	}
	return listReply(list, hostViewOf), nil
}

func (s *server) getHost(r *http.Request, _ []byte) (reply, error) {
	host, err := pathHost(r)
	if err != nil {
		return reply{}, err
	}
	status, err := s.Queue.Host(r.Context(), host)
	if err != nil {
		return reply{}, fmt.Errorf("look up host %s: %w", host, err)
	}
	return reply{Status: http.StatusOK, Body: hostViewOf(&status)}, nil
}

// actOn returns the endpoint that does something to a host, and answers with how it is then.
func (s *server) actOn(action queue.HostAction) endpoint {
	return func(r *http.Request, _ []byte) (reply, error) {
		host, err := pathHost(r)
		if err != nil {
			return reply{}, err
		}
		status, err := s.Queue.Act(r.Context(), host, action)
		if err != nil {
			return reply{}, fmt.Errorf("%s host %s: %w", action, host, err)
		}
		level := slog.LevelInfo
		if action == queue.Seen { // which comes with whatever an app hears of a host
			level = slog.LevelDebug
		}
		s.Log.Log(r.Context(), level, "host.action", "action", action, "host", host, "token", visitOf(r).token)
		return reply{Status: http.StatusOK, Body: hostViewOf(&status)}, nil
	}
}

func hostViewOf(h *queue.HostStatus) hostView {
	rec := h.Record
	return hostView{
		Host: h.Host, State: string(h.State), Pending: h.Pending, InFlight: h.InFlight,
		OldestPendingAt: stamp(h.OldestPendingAt),
		Breaker: breakerView{
			State: h.BreakerState().String(), Failures: rec.Breaker.Failures, RetryAt: stamp(h.RetryAt),
		},
		FailureDays: len(rec.Breaker.Days), SignatureScheme: cmp.Or(rec.Scheme, "unknown"),
		LastSuccessAt: stamp(rec.Breaker.LastSuccess), LastError: attemptView(rec.LastError),
	}
}

// pathHost is the host in the path, normalised. The router matches the path as it was sent, if that was escaped in
// another way than Go would have done it.
func pathHost(r *http.Request) (string, error) {
	host := chi.URLParam(r, "host")
	if r.URL.RawPath != "" {
		var err error
		if host, err = url.PathUnescape(host); err != nil {
			return "", invalid("path.host", "is not escaped well")
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
		return "", invalid(location, refusal.Detail)
	}
	return "", invalid(location, "is not a host")
}
