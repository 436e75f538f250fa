package delivery

import (
	"fmt"
	"runtime/debug"
)

// panicError is a panic that an attempt came to, made an error: a fault of ours that concerns one delivery.
type panicError struct {
	value any
	stack []byte
}

// newPanicError is called with what recover returned, by the deferred function that called it.
func newPanicError(value any) *panicError { return &panicError{value, debug.Stack()} }

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }
