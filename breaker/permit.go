package breaker

// Verdict is what an attempt says about the host.
type Verdict uint8

// The verdicts.
const (
	Abandoned  Verdict = iota // a fault on our side, or shutdown: as if it had never been allowed
	Alive                     // the host answered: failures are forgotten, the window grows by one
	Slow                      // the host answered, but so slowly that the window halves
	Failed                    // the host failed: a server error, or it was out of reach
	TimedOut                  // the host failed by not answering in time: the window halves, too
	Throttled                 // neither success nor failure, but the window halves; a probe has to be repeated
	Overloaded                // as Throttled, but the day counts as a day of failure
)

// Permit is the right to make one attempt. The attempt counts as in flight until the permit is given back; a permit that
// never is occupies a slot of the window, or the probe, for the rest of the turn.
type Permit struct {
	breaker *Breaker
	used    *bool // guarded by breaker.mu
}

// Done gives the permit back and reports the attempt's verdict on the host. Only the first call counts; later ones, and
// any on the zero Permit, do nothing.
func (p Permit) Done(v Verdict) {
	if p.breaker == nil {
		return
	}
	p.breaker.mu.Lock()
	defer p.breaker.mu.Unlock()
	if *p.used {
		return
	}
	*p.used = true
	p.breaker.inFlight--
	p.breaker.settle(v)
}
