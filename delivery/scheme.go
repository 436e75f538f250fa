package delivery

import (
	"cmp"
	"net/http"
	"slices"
	"time"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

const (
	// A host that took draft-cavage is relearned only after it took nothing but RFC 9421 this many times in a row, each
	// so long after the one before: several receivers answer 2xx to RFC 9421 without understanding it, and what is sent
	// to them so is lost. One 401 of a proxy must not cause that.
	doubtsNeeded = 3
	doubtGap     = 10 * time.Minute

	// A host that refused both schemes gets one request an attempt until it takes one, but both again after so long.
	refusalLasts = 6 * time.Hour
)

// approach is how an attempt begins to ask a host, as far as signatures go.
type approach struct {
	known signer.Scheme // what the host is known to take, "" if that isn't known
	once  bool          // it refused both schemes not long ago
}

// first returns the scheme of the first request.
func (a approach) first() signer.Scheme { return cmp.Or(a.known, signer.Cavage) }

// again reports whether a request by the other scheme may help after an answer with this status. It can't be worth its
// price where the status is final for the delivery and the scheme is known to be right.
func (a approach) again(status int, final []int) bool {
	switch status {
	case http.StatusUnauthorized:
		return !a.once && (a.known != signer.Cavage || !slices.Contains(final, status))
	case http.StatusBadRequest:
		return a.known != signer.Cavage
	}
	return false
}

// other returns the other scheme.
func other(s signer.Scheme) signer.Scheme {
	if s == signer.RFC9421 {
		return signer.Cavage
	}
	return signer.RFC9421
}

// approach returns how the host is to be asked now.
func (t *turn) approach() approach {
	refused := t.host.RefusedAt
	return approach{
		known: signer.Scheme(t.host.Scheme),
		once:  !refused.IsZero() && t.now().Sub(refused) < refusalLasts,
	}
}

// learnScheme notes in the host's record what an attempt showed of the schemes that the host takes.
func (t *turn) learnScheme(a *attempt) {
	h := &t.host
	switch {
	case a.refused:
		h.RefusedAt = t.now().UTC()
	case a.scheme == "":
	case a.scheme == signer.RFC9421 && h.Scheme == string(signer.Cavage):
		h.RefusedAt = time.Time{}
		if a.how.known != signer.RFC9421 { // it was asked by draft-cavage first, and refused
			doubt(h, t.now().UTC())
		}
	default:
		takes(h, a.scheme)
	}
}

// takes notes that the host takes a scheme.
func takes(h *queue.HostRecord, s signer.Scheme) {
	h.Scheme = string(s)
	h.Doubts = 0
	h.DoubtedAt = time.Time{}
	h.RefusedAt = time.Time{}
}

// doubt notes that the host, known to take draft-cavage, took only RFC 9421.
func doubt(h *queue.HostRecord, now time.Time) {
	if now.Sub(h.DoubtedAt) < doubtGap {
		return
	}
	h.Doubts++
	h.DoubtedAt = now
	if h.Doubts >= doubtsNeeded {
		takes(h, signer.RFC9421)
	}
}
