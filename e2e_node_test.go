package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// testNode is the program with a folder of its own, which can be stopped and started again on the same address.
type testNode struct {
	t       *testing.T
	args    []string // beside those of command
	process bool     // in a process of its own, else in this one
	token   string   // sent with every call
	dir     string
	listen  string
	out     *output // all that was written by all starts
	client  *http.Client
	instance
}

// instance is one run of the program.
type instance struct {
	signal func(os.Signal)
	done   chan struct{}
	code   *int // valid once done is closed
	cmd    *exec.Cmd
}

// startNode starts a node in this process and gives it the key.
func startNode(t *testing.T, args ...string) *testNode {
	t.Helper()
	return newTestNode(t, false, args).begin()
}

// startProcess starts a node in a process of its own, to be killed or measured, and gives it the key.
func startProcess(t *testing.T, args ...string) *testNode {
	t.Helper()
	return newTestNode(t, true, args).begin()
}

func newTestNode(t *testing.T, process bool, args []string) *testNode {
	t.Helper()
	n := &testNode{
		t: t, args: args, process: process, dir: filepath.Join(t.TempDir(), "store"),
		// Inboxes are dialled from 127.0.0.1, so that no connection takes the port while the node is down.
		listen: "127.2.0.1:0",
		out:    &output{}, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}},
	}
	t.Cleanup(func() {
		if n.instance.done != nil {
			n.stop()
		}
		for _, bad := range []string{"DATA RACE", "panic:", "http.panic"} {
			if strings.Contains(n.out.String(), bad) {
				t.Errorf("the node said %s:\n%s", bad, n.out)
			}
		}
		if said := n.out.String(); t.Failed() {
			t.Logf("the node's last words:\n%s", said[max(0, len(said)-8<<10):])
		}
	})
	return n
}

func (n *testNode) begin() *testNode {
	n.t.Helper()
	n.start()
	n.putKey(keyID)
	return n
}

// command is the command line. Flags given later win.
func (n *testNode) command() []string {
	return append([]string{
		"serve", "--store", "embedded:" + n.dir, "--listen", n.listen, "--allow-http",
		"--allow-private-addresses", "127.0.0.0/8", "--retry-base", "100ms", "--breaker-cool-off", "500ms",
		"--breaker-cool-off-max", "2s", "--attempt-timeout", "20s", "--shutdown-timeout", "10s", "--log-format", "json",
	}, n.args...)
}

// start starts the program and waits until it tells its address.
func (n *testNode) start() {
	n.t.Helper()
	said := len(n.out.String())
	if n.process {
		n.instance = startCommand(n.t, n.out, n.command()...)
	} else {
		n.instance = startRun(n.out, n.command()...)
	}
	eventually(n.t, "the node starts", func() bool {
		if n.ended() {
			n.t.Fatalf("the node ended at once:\n%s", n.out.String()[said:])
		}
		address := startedAt(n.out.String()[said:])
		if strings.HasSuffix(n.listen, ":0") && address != "" { // later starts take the same
			n.listen = address
		}
		return address != ""
	})
}

// startedAt finds the address in what a node that started has said.
func startedAt(log string) string {
	for line := range strings.Lines(log) {
		var entry struct{ Msg, Address string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "node.start" {
			return entry.Address
		}
	}
	return ""
}

func startRun(out *output, args ...string) instance {
	ctx, cancel := context.WithCancel(context.Background())
	i := instance{signal: func(os.Signal) { cancel() }, done: make(chan struct{}), code: new(int)}
	go func() {
		defer close(i.done)
		*i.code = run(ctx, args, nil, out, out)
	}()
	return i
}

func startCommand(t *testing.T, out *output, args ...string) instance {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	i := instance{
		signal: func(s os.Signal) { _ = cmd.Process.Signal(s) }, // an error means that it has ended
		done:   make(chan struct{}), code: new(int), cmd: cmd,
	}
	go func() {
		defer close(i.done)
		_ = cmd.Wait() // the code tells
		*i.code = cmd.ProcessState.ExitCode()
	}()
	return i
}

func (i *instance) ended() bool {
	select {
	case <-i.done:
		return true
	default:
		return false
	}
}

// stop ends the node as SIGTERM does, which has to work, and waits for it.
func (n *testNode) stop() {
	n.t.Helper()
	n.signal(terminate)
	n.wait()
	if *n.code != 0 {
		n.t.Errorf("a node that was told to stop ended with %d:\n%s", *n.code, n.out)
	}
}

// wait waits until the program has ended.
func (n *testNode) wait() {
	n.t.Helper()
	eventually(n.t, "the node ends", n.ended)
	n.instance.done = nil
	n.client.CloseIdleConnections()
}

func (n *testNode) restart() {
	n.t.Helper()
	n.stop()
	n.start()
}

// kill ends the node's process at once, with no chance to save anything, and starts it again.
func (n *testNode) kill() {
	n.t.Helper()
	n.crash()
	n.start()
}

// crash ends the node's process at once, for good.
func (n *testNode) crash() {
	n.t.Helper()
	n.signal(syscall.SIGKILL)
	n.wait()
}

// runOnce runs the program to its end and returns its exit code and what it wrote to stdout and stderr.
func runOnce(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	code = run(ctx, args, environ, &out, &errs)
	return code, out.String(), errs.String()
}

// output keeps what is written to it.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String returns all that was written.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (n *testNode) url(path string) string { return fmt.Sprintf("http://%s%s", n.listen, path) }

// terminate is what a supervisor sends to a process that shall stop.
const terminate = syscall.SIGTERM
