package delivery

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

const (
	// grace is how long the transport may take to end an exchange whose time is up before its connection is closed.
	grace = time.Second
	// overdueAfter is how long after its time an exchange that goes on is counted as overdue.
	overdueAfter = 2 * time.Second
)

// exchange is one Post. Its requests run in a goroutine of their own, so that the caller waits for no peer: net/http looks
// at the context in most places, but not in all, and where it waits for the peer it may do so without end.
type exchange struct {
	client *Client
	loan   loan
	done   chan Answer
	ended  bool // guarded by client.late.mu
}

// begin sends the request until something comes of it.
func (c *Client) begin(req *http.Request) *exchange {
	x := &exchange{client: c, done: make(chan Answer, 1)}
	go x.run(req)
	return x
}

func (x *exchange) run(req *http.Request) {
	var answer Answer
	defer func() {
		if v := recover(); v != nil {
			answer = Answer{Err: newPanicError(v)}
		}
		x.loan.end()
		x.client.late.remove(x)
		x.done <- answer
	}()
	answer = x.client.post(req, &x.loan)
}

// wait returns the answer, or what can be said by a grace period after the end of ctx. Where the transport does not end
// the exchange by then, its connection is closed, and nothing of it is waited for any more.
func (x *exchange) wait(ctx context.Context) Answer {
	select {
	case answer := <-x.done:
		return answer
	case <-ctx.Done():
	}
	x.client.late.add(x)
	select {
	case answer := <-x.done:
		return answer
	case <-time.After(grace):
	}
	x.loan.hangUp()
	err := ctx.Err()
	if expired(ctx) {
		err = context.DeadlineExceeded
	}
	return Answer{Err: fmt.Errorf("the inbox held the connection beyond the attempt's end: %w", err), TimedOut: timedOut(ctx, err)}
}

// lateSet knows the exchanges that go on though their time is up.
type lateSet struct {
	mu    sync.Mutex
	since map[*exchange]time.Time // guarded by mu
}

func (s *lateSet) add(x *exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !x.ended {
		s.since[x] = time.Now()
	}
}

func (s *lateSet) remove(x *exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x.ended = true
	delete(s.since, x)
}

// overdue counts the exchanges whose time was up so long ago that the closing of their connections did not end them.
func (s *lateSet) overdue() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, since := range s.since {
		if time.Since(since) > overdueAfter {
			n++
		}
	}
	return n
}

// Register registers the client's metric.
func (c *Client) Register(r prometheus.Registerer) {
	promauto.With(r).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "postrider_attempts_overdue",
		Help: "Attempts that still hold a connection two seconds after attempt-timeout; more than 0 is a fault of Postrider.",
	}, func() float64 { return float64(c.late.overdue()) })
}
