package handlers

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"slices"
	"strings"
)

// Token is a bearer token. Name identifies the caller, in the log and for idempotency; it is no secret.
type Token struct {
	Name, Secret string
	Scopes       []Scope // what it allows; without any, everything
}

// Scope is what a token allows.
type Scope string

// The scopes.
const (
	ScopeSend    Scope = "send"    // to hand over activities and keys, and to cancel and remove them
	ScopeRead    Scope = "read"    // to read everything but the metrics and profiles
	ScopeOperate Scope = "operate" // to change hosts and dead letters, and to take profiles
	ScopeMetrics Scope = "metrics" // to read the metrics
)

// scopes are those of a token; none are all.
type scopes []Scope

func (list scopes) allow(s Scope) bool { return len(list) == 0 || slices.Contains(list, s) }

// scope returns what a token has to allow for a route, "" if the route needs no token.
func (rt *route) scope() Scope {
	switch {
	case open[rt.path] || !needsToken(rt.path):
		return ""
	case rt.path == "/metrics":
		return ScopeMetrics
	case strings.HasPrefix(rt.path, profilesPrefix):
		return ScopeOperate
	case rt.method == http.MethodGet:
		return ScopeRead
	case strings.HasPrefix(rt.path, "/v1/keys"), strings.HasPrefix(rt.path, "/v1/activities"):
		return ScopeSend
	}
	return ScopeOperate
}

// checkScope refuses a call whose token does not allow it.
func (rt *route) checkScope(v *visit) error {
	needed := rt.scope()
	if needed == "" || v.scopes.allow(needed) {
		return nil
	}
	without := "does not have the scope " + string(needed)
	return forbidden("the token "+without, flaw{codeMissingScope, without}.at("header.Authorization"))
}

// tokens are the bearer tokens accepted, as digests, so that all are of one length.
type tokens []struct {
	name   string
	scopes scopes
	digest [sha256.Size]byte
}

func digests(list []Token) tokens {
	ts := make(tokens, len(list))
	for i, t := range list {
		ts[i].name, ts[i].scopes = t.Name, t.Scopes
		ts[i].digest = sha256.Sum256([]byte(t.Secret))
	}
	return ts
}

// caller returns the name and the scopes of a request's token, and whether the request has one or needs none as none is set.
// It compares with all tokens, and takes as long for each.
func (ts tokens) caller(r *http.Request) (name string, may scopes, trusted bool) {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	digest := sha256.Sum256([]byte(strings.TrimSpace(secret)))
	for i := range ts {
		if subtle.ConstantTimeCompare(digest[:], ts[i].digest[:]) == 1 && strings.EqualFold(scheme, "Bearer") {
			name, may = ts[i].name, ts[i].scopes
			trusted = true
		}
	}
	return name, may, trusted || len(ts) == 0
}

// open are the routes that need no token, besides the dashboard's.
var open = map[string]bool{"/healthz": true, "/readyz": true, "/openapi.json": true, problemRoute: true}

// needsToken reports whether a path is for callers with a token only.
func needsToken(path string) bool {
	_, page := dashboard[path]
	_, about := problemPages[path]
	return !page && !about && !open[path]
}

// authenticate passes calls that have a token, if tokens are set. It comes before routing, so that a stranger
// can't find out which routes there are.
func (s *server) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		accepted := *s.tokens.Load()
		v := visitOf(r)
		v.token, v.scopes, v.trusted = accepted.caller(r)
		if !v.trusted && needsToken(r.URL.Path) {
			// SPEC: RFC 6750, section 3: the resource server MUST include the HTTP "WWW-Authenticate" response header field.
			w.Header().Set("WWW-Authenticate", `Bearer realm="postrider"`)
			s.fail(w, r, &problem{Status: http.StatusUnauthorized, Detail: "a bearer token is needed"})
			return
		}
		next.ServeHTTP(w, r)
	})
}
