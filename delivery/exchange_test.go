package delivery

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestAnAttemptEndsThoughTheTransportDoesNot checks that an attempt whose context the transport ignores ends a second after
// its time, and that its connection is closed.
func TestAnAttemptEndsThoughTheTransportDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, ClientOptions{})
		near, far := net.Pipe()
		x := &exchange{client: c, done: make(chan Answer, 1)}
		conn := newTrackedConn(near, c.idle)
		conn.acquire()
		x.loan.set(conn)
		ctx, cancel := withClock(t.Context(), time.Minute)
		defer cancel()
		clockOf(ctx).start()
		began := time.Now()
		got := x.wait(ctx)
		if took := time.Since(began); got.Err == nil || !got.TimedOut || took != time.Minute+grace {
			t.Errorf("got %+v after %s", got, took)
		}
		_ = far.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the connection is open: %v", err)
		}
		time.Sleep(overdueAfter)
		if n := c.late.overdue(); n != 1 {
			t.Errorf("%d attempts are overdue, want the one that goes on", n)
		}
		x.loan.end()
		c.late.remove(x)
		if n := c.late.overdue(); n != 0 {
			t.Errorf("%d attempts are overdue after the last has ended", n)
		}
	})
}
