package handlers

import (
	"net/http"
)

// Starting returns the handler of a node that can't work yet: it lives, is not ready, and answers every call with 503.
// why returns what the node waits for, which /readyz shows to callers with one of the tokens.
func Starting(list []Token, why func() error) http.Handler {
	accepted := digests(list)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setSecurityHeaders(w.Header())
		p := foreign(r, len(accepted) > 0)
		switch {
		case p != nil:
		case r.URL.Path == "/healthz":
			write(w, reply{Status: http.StatusOK, Body: healthView{Status: "ok"}}, "application/json")
			return
		case r.URL.Path == "/readyz":
			_, _, trusted := accepted.caller(r)
			p = notReady("starting", why(), trusted)
		default:
			p = &problem{Status: http.StatusServiceUnavailable, Detail: "the node is starting", retryAfter: retryAway}
		}
		p.send(w)
	})
}
