package handlers

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/postrider/postrider/queue"
)

const (
	defaultLimit = 50
	maxLimit     = 500
)

// page is a part of a list.
type page[T any] struct {
	Items      []T    `json:"items" nullable:"false"`
	NextCursor string `json:"next_cursor,omitempty" doc:"absent on the last page"`
}

// list returns the endpoint of a list: a page of what is read with the filter that the query has.
func list[F, T, V any](
	filter func(*query) F, read func(context.Context, F, queue.Page) (queue.List[T], error), view func(*T) V,
) endpoint {
	return func(r *http.Request, _ []byte) (reply, error) {
		q := queryOf(r)
		p := q.page()
		f := filter(q)
		if q.err != nil {
			return reply{}, q.err
		}
		found, err := read(r.Context(), f, p)
		return listReply(found, view), err
	}
}

// listReply shows a part of a list.
func listReply[T, V any](list queue.List[T], view func(*T) V) reply {
	return reply{Status: http.StatusOK, Body: page[V]{Items: views(list.Items, view), NextCursor: list.Next}}
}

// views shows each of a list.
func views[T, V any](list []T, view func(*T) V) []V {
	shown := make([]V, len(list))
	for i := range list {
		shown[i] = view(&list[i])
	}
	return shown
}

// mustBeOneOf is the flaw of what is none of some values.
func mustBeOneOf[S ~string](values []S) flaw {
	return flaw{codeInvalidValue, "must be one of " + strings.Join(texts(values), ", ")}
}

func texts[S ~string](values []S) []string {
	return views(values, func(v *S) string { return string(*v) })
}

// stamp writes a time: RFC 3339, UTC, with milliseconds; "" for none, so that it is left out.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

// attempt is the last attempt of a delivery or the last error of a host.
type attempt struct {
	At       string  `json:"at" format:"date-time"`
	Status   int     `json:"status,omitempty" doc:"absent if there was no answer"`
	Outcome  outcome `json:"outcome"`
	Error    string  `json:"error,omitempty"`
	Duration int64   `json:"duration_ms"`
}

// outcome is what came of an attempt: a word of the delivery pool.
type outcome string

var outcomes = []outcome{
	"delivered", "gone", "redirected", "rejected", "unauthorized", "server_error", "throttled", "unreachable", "private_address",
	"key_missing", "fault", "aborted",
}

// Schema describes an outcome by the closed list of them.
func (outcome) Schema(huma.Registry) *huma.Schema { return enumSchema(outcomes) }

// reason is why a delivery is dead.
type reason string

// Schema describes a reason by the closed list of them.
func (reason) Schema(huma.Registry) *huma.Schema { return enumSchema(queue.Reasons) }

var notATime = flaw{codeInvalidValue, "must be a time like 2006-01-02T15:04:05Z"}

func attemptView(a *queue.LastAttempt) *attempt {
	if a == nil {
		return nil
	}
	return &attempt{
		At: stamp(a.At), Status: a.Status, Outcome: outcome(a.Outcome), Error: a.Error, Duration: a.Duration.Milliseconds(),
	}
}
