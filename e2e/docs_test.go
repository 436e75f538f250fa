package e2e

import (
	"bufio"
	"context"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// requireShell skips the test where there is no bash, curl or jq, and fails it instead if REQUIRE_JQ=1.
func requireShell(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"bash", "curl", "jq"} {
		if _, err := exec.LookPath(tool); err == nil {
			continue
		}
		if os.Getenv("REQUIRE_JQ") == "1" {
			t.Fatalf("REQUIRE_JQ=1, but there is no %[1]s: apt-get install %[1]s", tool)
		}
		t.Skipf("there is no %s", tool)
	}
}

// TestExamplesOfEvents runs the commands of docs/events.md against a node. One inbox of an activity is gone, the other is
// not, and a third host is unavailable.
func TestExamplesOfEvents(t *testing.T) {
	t.Parallel()
	requireShell(t)
	h := startHosts(t, 2, func(i int) testinbox.Options {
		return replies(testinbox.Reply{Status: []int{http.StatusAccepted, http.StatusGone}[i]})
	})
	node := startNode(t, "--unavailable-days", "1")
	node.settled(node.accept(submission{activity: like("1"), inboxes: []string{}, more: `,"recipients":` + actorsAt(h.urls())}))
	node.deliver(like("2"), nobody)
	harness.Eventually(t, "a host is unavailable", func() bool { return node.host("127.99.99.99:9").State == "unavailable" })

	page := &eventsPage{t: t, node: node, dir: t.TempDir(), blocks: commandsOf(t, "../docs/events.md")}
	page.prints("type=dead,activity_done'", `"items":[{"type":"dead"`, `"type":"activity_done"`, `"next_cursor":"`)
	page.prints("select(.reason", "http://"+h.Host(1)+"/users/bob\n")
	if got := page.run("select(.reason"); got != "" {
		t.Errorf("the gone are printed again: %q", got)
	}
	page.prints("select(.state", "127.99.99.99:9 unavailable\n")
	page.prints("sort=newest", `"items":[]`)
	page.prints(".counts.delivered", "https://app.example/likes/1: delivered to 1 of 2\n")
	page.streams("/v1/events", "event: host_state", func() {
		node.act(h.Host(0), "pause")
		node.act(h.Host(0), "resume")
	})
	if len(page.blocks) > 0 {
		t.Errorf("commands that were not run: %q", page.blocks)
	}
}

// commandsOf returns the commands of a page.
func commandsOf(t *testing.T, name string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// eventsPage runs the commands of a page in one folder.
type eventsPage struct {
	t      *testing.T
	node   *testNode
	dir    string
	blocks []string // that were not run yet
	last   string   // the block that was run last
}

// command returns the first block, which must hold a text, or the one that was run last.
func (p *eventsPage) command(ctx context.Context, text string) *exec.Cmd {
	p.t.Helper()
	if len(p.blocks) > 0 && strings.Contains(p.blocks[0], text) {
		p.last, p.blocks = p.blocks[0], p.blocks[1:]
	} else if !strings.Contains(p.last, text) {
		p.t.Fatalf("no command with %q comes next in %q", text, p.blocks)
	}
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", strings.ReplaceAll(p.last, "127.0.0.1:8080", p.node.Listen))
	cmd.Dir, cmd.Stderr = p.dir, os.Stderr
	return cmd
}

// run runs a block and returns what it prints.
func (p *eventsPage) run(text string) string {
	p.t.Helper()
	out, err := p.command(p.t.Context(), text).Output()
	if err != nil {
		p.t.Fatalf("%s: %v", p.last, err)
	}
	return string(out)
}

// prints runs a block, which must print some texts.
func (p *eventsPage) prints(text string, want ...string) {
	p.t.Helper()
	got := p.run(text)
	for _, w := range want {
		if !strings.Contains(got, w) {
			p.t.Errorf("%s prints %q, must print %q", p.last, got, w)
		}
	}
}

// streams runs a block that does not end, makes something happen, and waits for a line of it.
func (p *eventsPage) streams(text, line string, happen func()) {
	p.t.Helper()
	ctx, stop := context.WithCancel(p.t.Context())
	cmd := p.command(ctx, text)
	out, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	seen := make(chan bool, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if lines.Text() == line {
				seen <- true
				return
			}
		}
		seen <- false
	}()
	defer func() { stop(); _ = cmd.Wait() }() // it was killed
	harness.Eventually(p.t, "the stream has "+line, func() bool {
		happen()
		select {
		case ok := <-seen:
			if !ok {
				p.t.Fatalf("%s ended without %q", p.last, line)
			}
			return true
		default:
			return false
		}
	})
}
