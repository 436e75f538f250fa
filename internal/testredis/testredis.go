// Package testredis starts real redis-server processes for tests: one alone, a cluster, or a master with sentinels.
//
// Each listens on its own loopback ports and keeps its files in a folder of the test. When the test ends they are stopped and
// their files removed. Without a redis-server the test is skipped, or fails if REQUIRE_REDIS=1.
package testredis

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	dialTimeout  = 10 * time.Second
	startTimeout = 20 * time.Second
	pollEvery    = 20 * time.Millisecond
)

// Server is one redis-server process.
type Server struct {
	Addr string // host:port

	t        testing.TB
	password string // for Command; "" if none is required
	args     []string
	env      []string // beside our own
	clock    string   // the file that holds the offset of its clock, if StartAhead started it
	dir      string
	log      string
	cmd      *exec.Cmd
}

// Start starts a new Redis with these settings, as on the command line ("--maxmemory", "10mb"). It writes an append-only
// file, so that it can be restarted.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return start(t, nil, durable(args)...)
}

// durable adds the settings of a store that can be restarted.
func durable(args []string) []string {
	return append([]string{"--appendonly", "yes", "--appendfsync", "everysec", "--save", ""}, args...)
}

// URL returns the server's address in the form of the store setting.
func (s *Server) URL() string { return "redis://" + s.Addr }

// start starts a server on a free port, with some arguments before and some after those that all servers have.
func start(t testing.TB, first []string, last ...string) *Server {
	t.Helper()
	s := newServer(t, first, last...)
	s.Run()
	return s
}

// newServer makes a server that was not started yet, and stops it when the test ends.
func newServer(t testing.TB, first []string, last ...string) *Server {
	t.Helper()
	binary(t)
	port := strconv.Itoa(freePort(t))
	dir := t.TempDir()
	s := &Server{Addr: net.JoinHostPort("127.0.0.1", port), t: t, dir: dir, log: filepath.Join(dir, "redis.log")}
	s.args = append(first, "--port", port, "--bind", "127.0.0.1", "--dir", dir, "--logfile", s.log)
	s.args = append(s.args, last...)
	t.Cleanup(s.Kill) // also if it does not come up
	return s
}

func binary(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err == nil {
		return path
	}
	if os.Getenv("REQUIRE_REDIS") == "1" {
		t.Fatal("REQUIRE_REDIS=1, but there is no redis-server: apt-get install redis-server")
	}
	t.Skip("there is no redis-server: apt-get install redis-server")
	return ""
}

// Run starts the server again after it was stopped or killed, with the data in its files.
func (s *Server) Run() {
	s.t.Helper()
	s.launch()
	s.await("PONG", s.ping)
}

// RestartLoading is Restart for a server that then takes perKey to load each key from its files. It returns while the server
// loads.
func (s *Server) RestartLoading(perKey time.Duration) {
	s.t.Helper()
	s.Must("BGREWRITEAOF") // a file of keys, not of commands
	s.await("aof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0", func() (string, error) { return s.Command("INFO", "persistence") })
	s.Stop()
	s.launch("--key-load-delay", strconv.FormatInt(perKey.Microseconds(), 10), "--loading-process-events-interval-bytes", "1024")
	s.await("loading:1", func() (string, error) { return s.Command("INFO", "persistence") })
}

// launch starts the process.
func (s *Server) launch(more ...string) {
	s.t.Helper()
	s.cmd = exec.CommandContext(context.Background(), binary(s.t), append(s.args, more...)...)
	s.cmd.Env = append(os.Environ(), s.env...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("start redis-server: %v", err)
	}
}

// ping returns PONG if the server answers, also if it refuses the client.
func (s *Server) ping() (string, error) {
	answer, err := s.Command("PING")
	if err != nil && strings.Contains(err.Error(), "NOAUTH") {
		return "PONG", nil
	}
	return answer, err
}

// await calls a command until its answer holds want.
func (s *Server) await(want string, command func() (string, error)) {
	s.t.Helper()
	var got string
	var err error
	for start := time.Now(); time.Since(start) < startTimeout; time.Sleep(pollEvery) {
		if got, err = command(); err == nil && strings.Contains(got, want) {
			return
		}
	}
	log, _ := os.ReadFile(s.log) // there may be none
	s.t.Fatalf("redis at %s answers %q, %v, want %q; its log:\n%s", s.Addr, got, err, want, log)
}

// Restart stops the server, as an operator does, and starts it again with its data.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.Run()
}

// Stop stops the server, which writes its data to its files first, and waits until the process has ended.
func (s *Server) Stop() {
	s.end(syscall.SIGTERM)
}

// Kill ends the server at once.
func (s *Server) Kill() {
	s.end(syscall.SIGKILL)
}

// Lose kills the server and starts it again without its data.
func (s *Server) Lose() {
	s.t.Helper()
	s.Kill()
	entries, err := os.ReadDir(s.dir)
	for _, e := range entries {
		if name := filepath.Join(s.dir, e.Name()); name != s.log {
			err = errors.Join(err, os.RemoveAll(name))
		}
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.Run()
}

func (s *Server) end(sig syscall.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig) // an error means that it has ended
	_ = s.cmd.Wait()              // by a signal
	s.cmd = nil
}

// Freeze stops the server's process, so that it neither answers nor closes its connections, until thaw is called.
func (s *Server) Freeze() (thaw func()) {
	s.t.Helper()
	p := s.cmd.Process
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		s.t.Fatal(err)
	}
	return func() { _ = p.Signal(syscall.SIGCONT) } // an error means that it has ended
}

// CaughtUp waits until a replica has all writes of the server so far.
func (s *Server) CaughtUp(replica *Server) {
	s.t.Helper()
	written, err := s.offset("master_repl_offset:")
	if err != nil {
		s.t.Fatal(err)
	}
	replica.await("caught up", func() (string, error) {
		read, err := replica.offset("slave_repl_offset:")
		if read >= written {
			return "caught up", err
		}
		return fmt.Sprintf("%d of %d bytes", read, written), err
	})
}

// offset reads a number from the state of the replication.
func (s *Server) offset(name string) (int64, error) {
	info, err := s.Command("INFO", "replication")
	_, text, _ := strings.Cut(info, name)
	text, _, _ = strings.Cut(text, "\r")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(text, 10, 64)
}

// Command runs a command over a new connection and returns the answer as text, a list as one line for each element.
func (s *Server) Command(args ...string) (string, error) {
	conn, err := net.DialTimeout("tcp", s.Addr, dialTimeout)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(startTimeout)); err != nil {
		return "", err
	}
	answers := bufio.NewReader(conn)
	if s.password != "" {
		if _, err := request(conn, answers, "AUTH", s.password); err != nil {
			return "", err
		}
	}
	return request(conn, answers, args...)
}

// request sends a command and reads its answer.
func request(conn net.Conn, answers *bufio.Reader, args ...string) (string, error) {
	text := fmt.Sprintf("*%d\r\n", len(args))
	for _, a := range args {
		text += fmt.Sprintf("$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := conn.Write([]byte(text)); err != nil {
		return "", err
	}
	return readAnswer(answers)
}

func readAnswer(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	switch kind, rest := line[0], line[1:]; kind {
	case '-':
		return "", fmt.Errorf("redis: %s", rest)
	case '$':
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 {
			return "", err
		}
		text := make([]byte, n)
		if _, err := io.ReadFull(r, text); err != nil {
			return "", err
		}
		_, err = r.Discard(len("\r\n"))
		return string(text), err
	case '*':
		n, err := strconv.Atoi(rest)
		var list []string
		for err == nil && len(list) < n {
			var text string
			text, err = readAnswer(r)
			list = append(list, text)
		}
		return strings.Join(list, "\n"), err
	default:
		return rest, nil
	}
}

// Must runs a command that must not fail.
func (s *Server) Must(args ...string) string {
	s.t.Helper()
	answer, err := s.Command(args...)
	if err != nil {
		s.t.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	return answer
}

// freePort returns a port that is free now, and low enough for the bus port of a cluster's node (busPort above it).
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		if port+busPort > 1<<16-1 {
			_ = l.Close() // the next one may be lower
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return port
	}
	t.Fatal("there is no free port with room above it")
	return 0
}

// Calls returns how often the server has run a command, in lower case.
func (s *Server) Calls(command string) int {
	s.t.Helper()
	_, text, found := strings.Cut(s.Must("INFO", "commandstats"), "cmdstat_"+command+":calls=")
	if !found {
		return 0
	}
	text, _, _ = strings.Cut(text, ",")
	n, err := strconv.Atoi(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}
