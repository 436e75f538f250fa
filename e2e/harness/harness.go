// Package harness runs the program in tests: as a node or a single command, in the test's process or in a separate one.
//
// A separate process is the test's binary, started as the program. So it is the same code as go build makes of the package,
// with the race detector if the tests have it, and nothing is compiled twice. TestMain must call AsProgram.
package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/app"
)

// Patience is how long a test waits for anything on a busy machine. No test measures time.
const Patience = 60 * time.Second

const (
	asProgram   = "E2E_AS_PROGRAM"   // the variable that makes a process of a test's binary the program
	nameServers = "E2E_NAME_SERVERS" // the name servers of such a process, separated by commas
)

// AsProgram runs the program and exits if this process was started as the program. Otherwise it returns at once.
func AsProgram() {
	if os.Getenv(asProgram) != "" {
		app.Main(strings.FieldsFunc(os.Getenv(nameServers), func(r rune) bool { return r == ',' })...)
	}
}

// NameServers returns the environment variable that makes a process use these name servers.
func NameServers(addresses ...string) string { return nameServers + "=" + strings.Join(addresses, ",") }

// Command returns the program with these arguments as a process that was not started yet.
func Command(ctx context.Context, t *testing.T, environ []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(append(os.Environ(), asProgram+"=1"), environ...)
	return cmd
}

// RunOnce runs the program to its end in this process, and returns its exit code and its output.
func RunOnce(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	code = app.Program{Args: args, Environ: environ, Stdout: &out, Stderr: &errs}.Run(ctx)
	return code, out.String(), errs.String()
}

// Eventually waits until cond holds. If it does not within Patience, the test fails. What takes long to ask is asked rarely, so
// that it leaves the processors to what is waited for.
func Eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	const often, rarely, share = 10 * time.Millisecond, 250 * time.Millisecond, 5
	for start := time.Now(); ; {
		asked := time.Now()
		if cond() {
			return
		}
		if time.Since(start) > Patience {
			t.Fatalf("not within %s: %s", Patience, what)
		}
		time.Sleep(min(max(often, share*time.Since(asked)), rarely))
	}
}

// JSON returns v as JSON. It panics if v has no JSON form.
func JSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// Output is a buffer that is safe for concurrent use.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String returns all that was written.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
