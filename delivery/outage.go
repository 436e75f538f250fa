package delivery

import (
	"log/slog"
	"sync"
	"time"

	"github.com/postrider/postrider/queue"
)

// outage is the time during which the store can't be worked with. Any number of loops may be caught in it: it is logged
// when the first is, and when the store was seen to be well and none is caught any more.
type outage struct {
	log *slog.Logger

	mu     sync.Mutex
	caught int       // loops; guarded by mu
	err    error     // the first one's, nil while all is well; guarded by mu
	last   time.Time // when the store last failed; guarded by mu
	lost   int       // results that could not be settled; guarded by mu
}

// enter notes that a loop is caught.
func (o *outage) enter(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.caught++
	o.fail(err)
}

// note notes that the store failed somebody who does not wait for it.
func (o *outage) note(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fail(err)
}

// fail needs o.mu.
func (o *outage) fail(err error) {
	o.last = time.Now()
	if o.err == nil {
		o.err = err
		o.log.Error("store.away", "error", err)
	}
}

// leave notes that a loop is not caught any more, and how many results it lost. That the store is back is another thing:
// well tells it.
func (o *outage) leave(lost int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.caught--
	o.lost += lost
}

// well notes that the store did what it was asked. What is no proof that it could write counts only when it did not
// fail for a while: a lane that could not be taken is not offered for some time.
func (o *outage) well(proof bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil || o.caught > 0 || !proof && time.Since(o.last) <= 2*queue.OfferTTL {
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
