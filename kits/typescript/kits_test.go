package typescript

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

var update = flag.Bool("update", false, "write the types of the OpenAPI document")

func TestMain(m *testing.M) {
	harness.AsProgram()
	m.Run()
}

// scriptTime is how long a script may take: seconds, or much longer while all tests run on a small machine.
const scriptTime = 4 * time.Minute

// TestTypesAreFresh checks that the client's types are those of the OpenAPI document that a node serves.
func TestTypesAreFresh(t *testing.T) {
	t.Parallel()
	harness.RequireNode(t)
	harness.InstallPackages(t, ".")
	n := harness.NewNode(t)
	n.Start()
	var document map[string]any
	n.Get("/openapi.json", &document)
	document["paths"] = map[string]any{} // the client has the calls
	cli := filepath.Join("node_modules", "openapi-typescript", "bin", "cli.js")
	cmd := exec.CommandContext(t.Context(), "node", cli, "--root-types", "--root-types-no-schema-prefix")
	cmd.Stdin, cmd.Stderr = strings.NewReader(harness.JSON(document)), os.Stderr
	want, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	const file = "client/src/api.ts"
	if *update {
		if err := os.WriteFile(file, want, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); diff != "" {
		t.Errorf("run go test ./kits/typescript -run TestTypesAreFresh -update: types of the document (-) and in %s (+):\n%s", file, diff)
	}
}

// build compiles both packages, which also checks their types.
func build(t *testing.T) {
	t.Helper()
	harness.RequireNode(t)
	harness.InstallPackages(t, ".")
	lock := flock.New("node_modules.lock")
	if err := lock.Lock(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Unlock() }() // the end of the process does it too
	ctx, cancel := context.WithTimeout(t.Context(), scriptTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", filepath.Join("node_modules", "typescript", "bin", "tsc"), "-b", "client", "fedify")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tsc: %v\n%s", err, out)
	}
}

// script is a running program of the folder test.
type script struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
	stdin io.Writer
	errs  bytes.Buffer
}

func startScript(t *testing.T, environ []string, args ...string) *script {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), scriptTime)
	t.Cleanup(cancel)
	s := &script{t: t, cmd: exec.CommandContext(ctx, "node", args...)}
	s.cmd.Dir, s.cmd.Env = "test", append(os.Environ(), environ...)
	s.cmd.Stderr = &s.errs
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.stdin, s.lines = stdin, bufio.NewScanner(stdout)
	s.lines.Buffer(nil, 1<<20)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // unless it has ended
		_ = s.cmd.Wait()
		if t.Failed() {
			t.Logf("%v wrote:\n%s", args, &s.errs)
		}
	})
	return s
}

// next returns the next line that the script prints.
func (s *script) next() string {
	s.t.Helper()
	if !s.lines.Scan() {
		s.t.Fatalf("the script ended: %v", s.lines.Err())
	}
	return s.lines.Text()
}

// answer gives the script a line.
func (s *script) answer(line string) {
	s.t.Helper()
	if _, err := io.WriteString(s.stdin, line+"\n"); err != nil {
		s.t.Fatal(err)
	}
}

// TestClient runs the tests of the packages that need no node.
func TestClient(t *testing.T) {
	t.Parallel()
	build(t)
	ctx, cancel := context.WithTimeout(t.Context(), scriptTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "--test", "test/client.test.mjs", "test/queue.test.mjs")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestFedifyApps has two Fedify apps exchange activities. Everything that they send goes through the node, which is killed
// while they post.
func TestFedifyApps(t *testing.T) {
	t.Parallel()
	build(t)
	n := harness.NewNode(t)
	n.Process = true
	n.Start()
	s := startScript(t, []string{"POSTRIDER_URL=" + n.URL("")}, "exchange.mjs")
	for {
		switch step := s.next(); step {
		case "now":
			n.Kill()
		case "done":
			return
		default:
			t.Log(step)
			s.answer("")
		}
	}
}

// TestFanOut posts an activity to 2,000 inboxes, in one call of the node, and to fewer by a queue of Fedify's own, to compare
// the time of the app's CPU.
func TestFanOut(t *testing.T) {
	t.Parallel()
	build(t)
	n := harness.NewNode(t)
	n.Process = true
	n.Start()
	const many, few = 2000, 200
	ours := fanOut(t, "POSTRIDER_URL="+n.URL(""), many)
	own := fanOut(t, "POSTRIDER_URL=", few)
	t.Logf("the app's CPU: %d ms for %d inboxes by Postrider, %.3f ms each; %d ms for %d inboxes by Fedify's own queue, %.3f ms each",
		ours.CPU, many, float64(ours.CPU)/many, own.CPU, few, float64(own.CPU)/few)
	if ours.Calls != 1 {
		t.Errorf("%d calls were made, want one", ours.Calls)
	}
}

// spent is what fanout.mjs prints: calls of the node, and milliseconds of CPU.
type spent struct{ Calls, CPU int }

// fanOut returns what it took an app to post an activity to n inboxes. It has posted another one before, so its code is
// compiled.
func fanOut(t *testing.T, environ string, n int) (result spent) {
	t.Helper()
	const first = 100
	urls, inbox := startInboxes(t, n)
	s := startScript(t, []string{environ}, "fanout.mjs")
	for _, part := range [][]string{urls[:first], urls} {
		want := inbox.Count() + len(part)
		s.answer(harness.JSON(part))
		s.next()
		harness.Eventually(t, "all inboxes have it", func() bool { return inbox.Count() >= want })
		s.answer("")
		if err := json.Unmarshal([]byte(s.next()), &result); err != nil {
			t.Fatal(err)
		}
	}
	return result
}

// startInboxes starts n inboxes on twenty hosts.
func startInboxes(t *testing.T, n int) (urls []string, inbox *testinbox.Inbox) {
	t.Helper()
	const hosts = 20
	inbox = testinbox.New(testinbox.Options{Unsigned: true})
	fleet, err := testinbox.StartFleet(hosts, func(int) http.Handler { return inbox })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fleet.Close() })
	for i := range n {
		urls = append(urls, fleet.Inbox(i%hosts, fmt.Sprintf("/users/%d/inbox", i)))
	}
	return urls, inbox
}

// TestReadmes runs the programs of the READMEs as they are written, but for the addresses.
func TestReadmes(t *testing.T) {
	t.Parallel()
	build(t)
	urls, inbox := startInboxes(t, 1)
	n := harness.NewNode(t, "--api-tokens", "app:a-token-of-the-app")
	n.Start()
	addresses := strings.NewReplacer("http://127.0.0.1:8080", n.URL(""), "http://127.0.0.1:8081/users/bob/inbox", urls[0])
	for i, name := range []string{"client", "fedify"} {
		program := firstProgram(t, filepath.Join(name, "README.md"))
		harness.CheckShort(t, name, program)
		runProgram(t, addresses.Replace(program))
		harness.Eventually(t, "the activity of the README of "+name+" arrives", func() bool { return inbox.Count() == i+1 })
	}
}

func firstProgram(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, program, _ := strings.Cut(string(text), "```js\n")
	program, _, found := strings.Cut(program, "```")
	if !found {
		t.Fatalf("%s has no program", page)
	}
	return program
}

// runProgram runs a program in a folder that has the packages and a private key.
func runProgram(t *testing.T, program string) {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	err = errors.Join(
		os.Symlink(filepath.Join(here, "node_modules"), filepath.Join(dir, "node_modules")),
		os.WriteFile(filepath.Join(dir, "first.mjs"), []byte(program), 0o600),
		os.WriteFile(filepath.Join(dir, "alice.pem"), []byte(harness.PrivatePEM()), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), scriptTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "--import", filepath.Join(here, "test", "node20.mjs"), "first.mjs")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "POSTRIDER_TOKEN=a-token-of-the-app")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
