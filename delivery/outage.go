package delivery

import (
	"log/slog"
	"sync"
	"time"

	"github.com/postrider/postrider/queue"
)

// outage is a time during which the store fails. Any number of loops may be caught in it: its start is logged when the
// first is, and its end when the store works again and none is caught any more.
type outage struct {
	log *slog.Logger

	mu       sync.Mutex
	caught   int       // loops; guarded by mu
	err      error     // the first one's, nil while the store works; guarded by mu
	failedAt time.Time // when the store last failed; guarded by mu
	lost     int       // results that could not be settled; guarded by mu
}

// note notes that the store failed, and whether that catches a loop, which calls leave later.
func (o *outage) note(err error, catches bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if catches {
		o.caught++
	}
	o.failedAt = time.Now()
	if o.err == nil {
		o.err = err
		o.log.Error("store.away", "error", err)
	}
}

// leave notes that a loop is not caught any more, and how many results it lost. That the store is
// back is logged by succeeded.
func (o *outage) leave(lost int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.caught--
	o.lost += lost
}

// succeeded notes that a call succeeded. A call that proves nothing of writes counts only if the store did not fail for
// a while: a lane that could not be taken is not offered for some time.
func (o *outage) succeeded(proof bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil || o.caught > 0 || !proof && time.Since(o.failedAt) <= 2*queue.OfferTTL {
		return
	}
	o.log.Info("store.back", "results_lost", o.lost)
	o.err, o.lost = nil, 0
}

// current returns the error of the outage, nil if there is none.
func (o *outage) current() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}
