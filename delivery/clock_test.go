package delivery

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// The clocks of an attempt and of its requests stand still while a name is looked up.
func TestClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		attempt, end := withClock(t.Context(), 10*time.Second)
		defer end()
		request, done := withClock(attempt, 8*time.Second)
		defer done()
		began := time.Now()
		time.Sleep(4 * time.Second)
		c := clockOf(request)
		c.stop()
		c.stop()
		time.Sleep(time.Minute)
		c.start()
		c.start()
		<-request.Done()
		if took := time.Since(began); took != time.Minute+8*time.Second || !expired(request) || expired(attempt) {
			t.Errorf("the request ended after %s: %v", took, context.Cause(request))
		}
		<-attempt.Done()
		if took := time.Since(began); took != time.Minute+10*time.Second || !expired(attempt) {
			t.Errorf("the attempt ended after %s: %v", took, context.Cause(attempt))
		}
	})
}

func TestAClockThatIsEndedHasNotRunOut(t *testing.T) {
	t.Parallel()
	ctx, end := withClock(t.Context(), time.Hour)
	end()
	clockOf(ctx).start() // by a connection that no attempt waits for any more
	if ctx.Err() == nil || expired(ctx) {
		t.Errorf("got %v, %v", ctx.Err(), context.Cause(ctx))
	}
	clockOf(t.Context()).stop() // there is none
}
