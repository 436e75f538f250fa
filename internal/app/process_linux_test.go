package app

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHideMemory checks that a node leaves no core dump, and that others of its user cannot read its memory, from before it
// logs that it has started.
func TestHideMemory(t *testing.T) {
	before := dumpable(t)
	t.Cleanup(func() { setDumpable(t, before) })
	setDumpable(t, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	started := 0
	log := writerFunc(func(line []byte) (int, error) {
		if bytes.Contains(line, []byte(`"node.start"`)) {
			started++
			if got := dumpable(t); got != 0 {
				t.Errorf("the process can be dumped: %d", got)
			}
			stop()
		}
		return len(line), nil
	})
	args := []string{"serve", "--store", "embedded:" + filepath.Join(t.TempDir(), "store"), "--listen", "127.0.0.1:0", "--log-format", "json"}
	if code := (Program{Args: args, Stdout: io.Discard, Stderr: log}).Run(ctx); code != 0 || started != 1 {
		t.Errorf("the node started %d times, and ended with %d", started, code)
	}
}

// TestHideMemoryOfCommands checks that every other command hides its memory as a node does: all of them may read tokens,
// master keys or private keys.
func TestHideMemoryOfCommands(t *testing.T) {
	before := dumpable(t)
	t.Cleanup(func() { setDumpable(t, before) })
	none := filepath.Join(t.TempDir(), "none")
	for _, args := range [][]string{
		{"version"},
		{"healthcheck", "--listen", "127.0.0.1:1"},
		{"keys", "list", "--url", "http://127.0.0.1:1"},
		{"relay", "--install", "print"},
		{"send", "https://one.example/inbox", none, "--key-id", "https://app.example/key", "--key-file", none},
		{"backup", "--store", "embedded:" + none, none + ".db"},
		{"migrate", "--store", "embedded:" + none, "--to", "redis://127.0.0.1:1"},
	} {
		setDumpable(t, 1)
		(Program{Args: args, Stdout: io.Discard, Stderr: io.Discard}).Run(t.Context())
		if dumpable(t) != 0 {
			t.Errorf("%q: the process can be dumped", args)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func dumpable(t *testing.T) int {
	t.Helper()
	got, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func setDumpable(t *testing.T, to int) {
	t.Helper()
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(to), 0, 0, 0); err != nil {
		t.Fatal(err)
	}
}
