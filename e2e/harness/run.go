package harness

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/postrider/postrider/internal/app"
)

// Terminate is the signal by which a supervisor stops a process.
const Terminate = syscall.SIGTERM

// Run is one run of the program.
type Run struct {
	done   chan struct{}
	code   int // set before done is closed
	signal func(os.Signal)
	cmd    *exec.Cmd // nil if it is in the test's own process
}

// Start starts the program in this process, with out as its output.
func Start(out *Output, args ...string) *Run {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Run{done: make(chan struct{}), signal: func(os.Signal) { cancel() }}
	go func() {
		defer close(r.done)
		r.code = app.Program{Args: args, Stdout: out, Stderr: out}.Run(ctx)
	}()
	return r
}

// StartProcess is Start in a separate process, which also has these variables in its environment.
func StartProcess(t *testing.T, out *Output, environ []string, args ...string) *Run {
	t.Helper()
	cmd := Command(context.Background(), t, environ, args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := &Run{
		done:   make(chan struct{}),
		signal: func(s os.Signal) { _ = cmd.Process.Signal(s) }, // an error means that it has ended
		cmd:    cmd,
	}
	go func() {
		defer close(r.done)
		_ = cmd.Wait() // its error is the exit code
		r.code = cmd.ProcessState.ExitCode()
	}()
	return r
}

// Signal sends a signal to the program. Any signal stops it if it is in the test's own process.
func (r *Run) Signal(s os.Signal) { r.signal(s) }

// Done is closed when the program has ended.
func (r *Run) Done() <-chan struct{} { return r.done }

// Ended reports whether the program has ended.
func (r *Run) Ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// Code waits until the program has ended and returns its exit code.
func (r *Run) Code() int {
	<-r.done
	return r.code
}

// PID returns the process ID of a program in a separate process.
func (r *Run) PID() int { return r.cmd.Process.Pid }
