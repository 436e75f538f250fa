package delivery

import (
	"log/slog"
	"sync"
)

// outage is the time during which the store can't be worked with. Any number of loops may be caught in it: it is logged
// when the first is, and when the last is out again.
type outage struct {
	log *slog.Logger

	mu     sync.Mutex
	caught int   // loops; guarded by mu
	err    error // the first one's; guarded by mu
}

func (o *outage) enter(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.caught++; o.caught == 1 {
		o.err = err
		o.log.Error("store.away", "error", err)
	}
}

func (o *outage) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.caught--; o.caught == 0 {
		o.err = nil
		o.log.Info("store.back")
	}
}

// current returns the error of the outage, nil if there is none.
func (o *outage) current() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}
