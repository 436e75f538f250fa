package harness

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// Node is the program with its own folder, which can be stopped and started again on the same address. Its fields may be
// changed until it is started.
type Node struct {
	T       *testing.T
	Args    []string // more arguments than Command's; they win
	Environ []string // more variables of its process than the test's
	Process bool     // in a separate process, to be killed or measured
	Token   string   // sent with every call
	Scheme  string   // of the API, "" is http
	Dir     string   // of the embedded store
	Listen  string   // the address of the API, with its port once the node has started
	Out     *Output  // the output of all runs
	Client  *http.Client
	*Run    // the last

	running bool // until Wait has returned
}

// NewNode returns a node that was not started yet. At the end of the test it is stopped, and its log must be free of panics.
func NewNode(t *testing.T, args ...string) *Node {
	t.Helper()
	n := &Node{
		T: t, Args: args, Dir: filepath.Join(t.TempDir(), "store"),
		Listen: ownAddress(),
		Out:    &Output{}, Client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}},
	}
	t.Cleanup(func() {
		if n.running {
			n.Stop()
		}
		for _, bad := range []string{"DATA RACE", "panic:", "http.panic", "%!"} {
			if strings.Contains(n.Out.String(), bad) {
				t.Errorf("the node logged %s:\n%s", bad, n.Out)
			}
		}
		if out := n.Out.String(); t.Failed() {
			t.Logf("the end of the node's log:\n%s", out[max(0, len(out)-8<<10):])
		}
	})
	return n
}

var nodes atomic.Uint32

// ownAddress returns an address of loopback that no other node has, so that nothing takes a node's port while it is down.
// Inboxes are dialled from 127.0.0.1.
func ownAddress() string {
	return fmt.Sprintf("127.2.%d.%d:0", os.Getpid()%256, nodes.Add(1)%256)
}

// Command is the command line.
func (n *Node) Command() []string {
	return append([]string{
		"serve", "--store", "embedded:" + n.Dir, "--listen", n.Listen, "--allow-http",
		"--allow-private-addresses", "127.0.0.0/8", "--retry-base", "100ms", "--breaker-cool-off", "500ms",
		"--breaker-cool-off-max", "2s", "--attempt-timeout", "20s", "--shutdown-timeout", "10s", "--log-format", "json",
	}, n.Args...)
}

// Launch starts the program and does not wait until it is ready.
func (n *Node) Launch() {
	n.T.Helper()
	if n.Process {
		n.Run = StartProcess(n.T, n.Out, n.Environ, n.Command()...)
	} else {
		n.Run = Start(n.Out, n.Command()...)
	}
	n.running = true
}

// Start starts the program and waits until it logs its address.
func (n *Node) Start() {
	n.T.Helper()
	before := len(n.Out.String())
	n.Launch()
	Eventually(n.T, "the node starts", func() bool {
		if n.Ended() {
			n.T.Fatalf("the node ended at once:\n%s", n.Out.String()[before:])
		}
		address := startedAt(n.Out.String()[before:])
		if strings.HasSuffix(n.Listen, ":0") && address != "" { // later runs take the same
			n.Listen = address
		}
		return address != ""
	})
}

// startedAt finds the address in the log of a node, or "" if it has not started.
func startedAt(log string) string {
	for line := range strings.Lines(log) {
		var entry struct{ Msg, Address string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "node.start" {
			return entry.Address
		}
	}
	return ""
}

// Stop ends the node as SIGTERM does, and waits for it. The exit code must be 0.
func (n *Node) Stop() {
	n.T.Helper()
	n.Signal(Terminate)
	n.Wait()
	if n.Code() != 0 {
		n.T.Errorf("a node that was told to stop ended with %d:\n%s", n.Code(), n.Out)
	}
}

// Wait waits until the program has ended.
func (n *Node) Wait() {
	n.T.Helper()
	Eventually(n.T, "the node ends", n.Ended)
	n.running = false
	n.Client.CloseIdleConnections()
}

// Restart stops the node and starts it again.
func (n *Node) Restart() {
	n.T.Helper()
	n.Stop()
	n.Start()
}

// Kill ends the node's process at once, with no chance to save anything, and starts it again.
func (n *Node) Kill() {
	n.T.Helper()
	n.Crash()
	n.Start()
}

// Crash ends the node's process at once.
func (n *Node) Crash() {
	n.T.Helper()
	n.Signal(syscall.SIGKILL)
	n.Wait()
}

// URL is the URL of a path of the API.
func (n *Node) URL(path string) string { return cmp.Or(n.Scheme, "http") + "://" + n.Listen + path }
