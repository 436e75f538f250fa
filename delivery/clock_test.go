package delivery

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// The clock of an attempt stands still until it is started, and while a name is looked up.
func TestClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, end := withClock(t.Context(), 10*time.Second)
		defer end()
		began := time.Now()
		time.Sleep(time.Hour)
		c := clockOf(ctx)
		c.start()
		time.Sleep(4 * time.Second)
		c.stop()
		c.stop()
		time.Sleep(time.Minute)
		c.start()
		c.start()
		<-ctx.Done()
		if took := time.Since(began); took != time.Hour+time.Minute+10*time.Second || !expired(ctx) {
			t.Errorf("it ended after %s: %v", took, context.Cause(ctx))
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
