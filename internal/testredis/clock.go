package testredis

import (
	_ "embed" // for the source below
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

//go:embed testdata/clock.c
var clockSource []byte

// StartAhead is Start for a Redis whose clock is ahead of ours, or behind it, as if the clients' clocks were wrong. It needs
// a C compiler, and a system with LD_PRELOAD.
func StartAhead(t testing.TB, ahead time.Duration, args ...string) *Server {
	t.Helper()
	binary(t) // first, as it may skip the test
	dir := t.TempDir()
	source := filepath.Join(dir, "clock.c")
	library := filepath.Join(dir, "clock.so")
	if err := os.WriteFile(source, clockSource, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "cc", "-shared", "-fPIC", "-O1", "-o", library, source).CombinedOutput()
	if err != nil {
		t.Fatalf("compile the clock: %v\n%s", err, out)
	}
	// The thread of the allocator would take a whole processor where its clock is behind: it waits until a time that has passed.
	s := newServer(t, nil, append(durable(args), "--jemalloc-bg-thread", "no")...)
	s.clock = filepath.Join(dir, "ahead")
	s.env = []string{"LD_PRELOAD=" + library, "CLOCK_FILE=" + s.clock}
	s.setClock(ahead)
	s.Run()
	s.checkClock(ahead)
	return s
}

// Jump moves the clock of a server that StartAhead started.
func (s *Server) Jump(by time.Duration) {
	s.t.Helper()
	ahead := s.ahead().Round(time.Second) + by
	s.setClock(ahead)
	s.checkClock(ahead)
}

// setClock writes how far the server's clock is ahead of ours to the file that it reads. It does not replace the file, which
// is mapped.
func (s *Server) setClock(ahead time.Duration) {
	s.t.Helper()
	f, err := os.OpenFile(s.clock, os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintf(f, "%020d\n", ahead/time.Second)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) checkClock(ahead time.Duration) {
	s.t.Helper()
	if got := s.ahead(); (got - ahead).Abs() > time.Minute {
		s.t.Fatalf("the clock of redis is ahead by %s, want %s", got, ahead)
	}
}

// ahead returns how far the server's clock is ahead of ours.
func (s *Server) ahead() time.Duration {
	s.t.Helper()
	var seconds int64
	if _, err := fmt.Sscan(s.Must("EVAL", "return redis.call('TIME')[1]", "0"), &seconds); err != nil {
		s.t.Fatal(err)
	}
	return time.Until(time.Unix(seconds, 0))
}
