package redisq

import "sync"

// errands counts functions that run on behalf of others. Unlike a sync.WaitGroup, it may be waited for while
// more are started. The zero value is ready to use.
type errands struct {
	mu   sync.Mutex
	n    int           // that run; guarded by mu
	done chan struct{} // closed when none runs any more, nil if none does; guarded by mu
}

// Go runs a function in a goroutine of its own.
func (e *errands) Go(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.n++; e.done == nil {
		e.done = make(chan struct{})
	}
	go func() {
		defer e.end()
		f()
	}()
}

func (e *errands) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.n--; e.n == 0 {
		close(e.done)
		e.done = nil
	}
}

// Wait waits until none runs.
func (e *errands) Wait() {
	e.mu.Lock()
	done := e.done
	e.mu.Unlock()
	if done != nil {
		<-done
	}
}
