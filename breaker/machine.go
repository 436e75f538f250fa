package breaker

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sony/gobreaker/v2"
)

// machine is gobreaker's state machine. Each result is reported to it, once it is known, as a request that takes no time.
// Its two-step variant, which would count from the start of a request, can't be restored, and attempts in flight have to
// be counted here in any case, for the window and for the threshold.
type machine = gobreaker.CircuitBreaker[struct{}]

// errFailed is how a host failure is reported to the machine.
var errFailed = errors.New("host failed")

// report reports one result to the machine. While it is open it ignores results, which is right: the probe decides.
func report(m *machine, result error) {
	_, _ = m.Execute(func() (struct{}, error) { return struct{}{}, result })
}

// newMachine makes a machine in the state of r. Open becomes half-open, as the cool-off has passed when a turn begins. A
// closed machine has at least one failure left before it opens, so that a threshold that was lowered in the meantime can't
// exclude the host without a probe.
func newMachine(r Record, threshold int, changed func(to gobreaker.State)) *machine {
	settings := gobreaker.Settings{
		MaxRequests:   1,
		Timeout:       math.MaxInt64, // the cool-off is the lane's wait: within a turn, open stays open
		ReadyToTrip:   func(c gobreaker.Counts) bool { return int(c.ConsecutiveFailures) >= threshold },
		OnStateChange: func(_ string, _, to gobreaker.State) { changed(to) },
	}
	failures := min(r.Failures, threshold-1)
	switch {
	case r.State != Closed:
		return inject(settings, gobreaker.StateHalfOpen, gobreaker.Counts{})
	case failures > 0:
		return inject(settings, gobreaker.StateClosed, gobreaker.Counts{ConsecutiveFailures: uint32(failures)})
	default:
		return gobreaker.NewCircuitBreaker[struct{}](settings)
	}
}

// inject makes a machine in a given state. gobreaker's only public way to do so is its distributed breaker, which reads
// its state from a store as JSON. It is used for nothing else, since it would hold its lock for as long as a request
// takes and lose counts of requests that overlap.
func inject(settings gobreaker.Settings, state gobreaker.State, counts gobreaker.Counts) *machine {
	shared, err := json.Marshal(gobreaker.SharedState{
		State:   state,
		Counts:  counts,
		Buckets: []gobreaker.Counts{counts}, // without an interval there is exactly one, and it must be there
		Start:   time.Now(),
	})
	if err != nil {
		panic(fmt.Errorf("breaker: encode state: %w", err))
	}
	d, err := gobreaker.NewDistributedCircuitBreaker[struct{}](handover(shared), settings)
	if err == nil {
		_, err = d.State() // reads the store's state
	}
	if err != nil { // neither the store nor the decoding of what was just encoded can fail
		panic(fmt.Errorf("breaker: inject state: %w", err))
	}
	return d.CircuitBreaker
}

// handover is a gobreaker store that returns one state and keeps none.
type handover []byte

func (handover) Lock(string) error                { return nil }
func (handover) Unlock(string) error              { return nil }
func (h handover) GetData(string) ([]byte, error) { return h, nil }
func (handover) SetData(string, []byte) error     { return nil }
