package testredis

import (
	_ "embed" // for the source below
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

//go:embed testdata/clock.c
var clockSource []byte

// StartAhead is Start for a Redis whose clock is ahead of ours, or behind it, which is the same as clients whose clocks
// are wrong. It needs a C compiler, and a system that has LD_PRELOAD.
func StartAhead(t testing.TB, ahead time.Duration, args ...string) *Server {
	t.Helper()
	binary(t) // first, as it may skip the test
	dir := t.TempDir()
	source, library := filepath.Join(dir, "clock.c"), filepath.Join(dir, "clock.so")
	if err := os.WriteFile(source, clockSource, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "cc", "-shared", "-fPIC", "-O1", "-o", library, source).CombinedOutput() //nolint:gosec // our own names
	if err != nil {
		t.Fatalf("compile the clock: %v\n%s", err, out)
	}
	s := newServer(t, nil, durable(args)...)
	s.env = []string{"LD_PRELOAD=" + library, "CLOCK_AHEAD=" + strconv.Itoa(int(ahead/time.Second))}
	s.Run()
	if got := s.ahead(); (got - ahead).Abs() > time.Minute {
		t.Fatalf("the clock of redis is ahead by %s, want %s", got, ahead)
	}
	return s
}

// ahead is how far the server's clock is ahead of ours.
func (s *Server) ahead() time.Duration {
	s.t.Helper()
	var seconds int64
	if _, err := fmt.Sscan(s.Must("EVAL", "return redis.call('TIME')[1]", "0"), &seconds); err != nil {
		s.t.Fatal(err)
	}
	return time.Until(time.Unix(seconds, 0))
}
