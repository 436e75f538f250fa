package redisq

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
)

// shell runs commands of the docs against a server.
type shell struct {
	t   *testing.T
	bin string // a folder with a redis-cli that knows the server
}

func newShell(t *testing.T, server *testredis.Server) *shell {
	t.Helper()
	cli, err := exec.LookPath("redis-cli")
	if err != nil {
		t.Fatalf("redis-cli comes with redis-server, but: %v", err)
	}
	host, port, _ := strings.Cut(server.Addr, ":")
	bin := t.TempDir()
	program := "#!/bin/sh\nexec " + cli + " -h " + host + " -p " + port + ` "$@"` + "\n"
	if err := os.WriteFile(filepath.Join(bin, "redis-cli"), []byte(program), 0o700); err != nil {
		t.Fatal(err)
	}
	return &shell{t, bin}
}

// run returns what a command says, which must be text that can be read and no error.
func (s *shell) run(command string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), "/bin/sh", "-c", command)
	cmd.Env = append(os.Environ(), "PATH="+s.bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	said := strings.TrimSpace(string(out))
	unreadable := func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) && r != '\n' }
	switch {
	case err != nil, said == "", regexp.MustCompile(`(?m)^(\(error\)|ERR|WRONGTYPE)`).MatchString(said):
		s.t.Errorf("%s: %v, and says %q", command, err, said)
	case strings.ContainsFunc(said, unreadable):
		s.t.Errorf("%s says what nobody can read: %q", command, said)
	}
	return said
}

// furnishForDocs gives the store that the docs look at something of all that they look for.
func furnishForDocs(t *testing.T, url string) *Store {
	t.Helper()
	s := openStore(t, Options{URL: url, Prefix: "postrider"})
	high := submission("high", 10, "mastodon.example")
	high.Priority = queue.High
	enqueue(t, s, high)
	enqueue(t, s, submission("1", 10, "mastodon.example", "blocked.example"))
	if _, err := s.Act(t.Context(), "blocked.example", queue.Block, queue.Order{}); err != nil {
		t.Fatal(err)
	}
	leases, err := s.Leases(time.Minute).Acquire(t.Context(), []string{"mastodon.example"})
	if err != nil || len(leases) != 1 {
		t.Fatalf("%d leases, %v", len(leases), err)
	}
	if _, err := s.Take(t.Context(), leases, 1); err != nil {
		t.Fatal(err)
	}
	failed := queue.HostRecord{Breaker: breaker.Record{Failures: 1, Failed: true}}
	if _, err := s.Settle(t.Context(), leases[0], queue.Settlement{Host: &failed}, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.SetMark(t.Context(), "was moved"); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestByHand runs every command that docs/redis.md has for operators on a Redis with work in it.
func TestByHand(t *testing.T) {
	_, section, _ := strings.Cut(redisDoc(t), "\n## By hand\n")
	looks := regexp.MustCompile(`(?m)^redis-cli [^\n]*?(  +#.*)?$`).FindAllString(section, -1)
	changes := regexp.MustCompile("`(redis-cli [^`]*)`").FindAllStringSubmatch(section, -1)
	if len(looks) < 6 || len(changes) < 2 {
		t.Fatalf("the docs have %d commands that look and %d that change something", len(looks), len(changes))
	}
	server := testredis.Start(t)
	s, sh := furnishForDocs(t, server.URL()), newShell(t, server)
	awaitListener(t, server, "postrider", "1")
	said := ""
	for _, command := range looks {
		said += sh.run(command) + "\n"
	}
	for _, want := range []string{"pending\n2\n", "mastodon.example\n", "bblocked.example\n", "postrider:wake\n1\n"} {
		if !strings.Contains(said, want) {
			t.Errorf("the commands do not show %q:\n%s", want, said)
		}
	}
	if regexp.MustCompile(`(?m)^-\d$`).MatchString(said) {
		t.Errorf("a lease does not last:\n%s", said)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, command := range changes {
		sh.run(command[1])
	}
	if n := server.Must("DBSIZE"); n != "0" {
		t.Errorf("%s keys are left: %q", n, keysOf(t, server))
	}
}
