package handlers

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// crossOrigin finds the requests that a web page elsewhere made a browser send, of methods that may change something.
var crossOrigin = http.NewCrossOriginProtection()

// protect refuses what a web page elsewhere may have made a browser of the operator send: a request of another origin
// that may change something and, where no token is needed, one whose Host does not name this machine. A page whose name
// was made to point to loopback (DNS rebinding) is of the same origin to the browser, but its Host gives it away.
func (s *server) protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := foreign(r, len(*s.tokens.Load()) > 0); p != nil {
			s.fail(w, r, p)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// foreign returns the problem with a request that may come from a web page elsewhere, or nil.
func foreign(r *http.Request, needsToken bool) *problem {
	if !needsToken && !isLoopback(r.Host) {
		return forbidden("without api-tokens, the node answers only where Host is localhost or a loopback address",
			flaw{codeForeignHost, "is not localhost or a loopback address"}.at("header.Host"))
	}
	if crossOrigin.Check(r) != nil {
		return forbidden("a web page of another origin must not change anything",
			flaw{codeCrossOrigin, "is another origin"}.at("header.Origin"))
	}
	return nil
}

func forbidden(detail string, what fault) *problem {
	return &problem{Status: http.StatusForbidden, Detail: detail, Errors: []fault{what}}
}

// isLoopback reports whether a Host, with or without a port, is localhost or a loopback address. Other names may be
// made to point to loopback by anybody.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else if inner, ok := strings.CutPrefix(host, "["); ok {
		host = strings.TrimSuffix(inner, "]")
	}
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.Zone() == "" && addr.Unmap().IsLoopback()
}
