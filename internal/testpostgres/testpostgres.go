// Package testpostgres starts real PostgreSQL servers for tests, each with a cluster of its own in a temporary folder, on a
// loopback port.
//
// The servers keep what was committed when they are killed, but need no disk that does: fsync is off. As root they run as the
// user postgres, because PostgreSQL refuses to run as root. When the test ends they are stopped and their files removed.
// Without PostgreSQL the test is skipped, or fails if REQUIRE_POSTGRES=1.
package testpostgres

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	startTimeout = 60 * time.Second
	pollEvery    = 20 * time.Millisecond
)

// Server is one PostgreSQL server.
type Server struct {
	t         testing.TB
	bin       string // the folder of its programs
	dir       string
	port      string
	cmd       *exec.Cmd
	ended     chan struct{} // closed when the process has ended
	databases int
}

// Start starts a server with these settings ("max_connections=20").
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	s := &Server{t: t, bin: programs(t), dir: folder(t), port: freePort(t)}
	data := filepath.Join(s.dir, "data")
	s.run("initdb", "-D", data, "-U", "app", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
	config := "listen_addresses='127.0.0.1'\nport=" + s.port + "\nunix_socket_directories=''\nfsync=off\nlog_min_error_statement=panic\n"
	for _, line := range settings {
		config += line + "\n"
	}
	if err := os.WriteFile(filepath.Join(data, "postgresql.auto.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s.own(filepath.Join(data, "postgresql.auto.conf"))
	t.Cleanup(s.Kill)
	s.Run()
	return s
}

// Run starts the server again after it was killed, with its data.
func (s *Server) Run() {
	s.t.Helper()
	s.launch()
	for start := time.Now(); time.Since(start) < startTimeout; time.Sleep(pollEvery) {
		if conn, err := pgx.Connect(s.t.Context(), s.url("postgres")); err == nil {
			_ = conn.Close(s.t.Context()) // it worked
			return
		}
		select {
		case <-s.ended: // it found that not all processes of the last run had ended
			s.launch()
		default:
		}
	}
	text, _ := os.ReadFile(s.log()) // there may be none
	s.t.Fatalf("postgres does not start; its log:\n%s", text)
}

func (s *Server) log() string { return filepath.Join(s.dir, "log") }

// launch starts the process.
func (s *Server) launch() {
	s.t.Helper()
	s.cmd = s.command("postgres", "-D", filepath.Join(s.dir, "data"))
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	s.ended = ended
	cmd := s.cmd
	go func() {
		_ = cmd.Wait() // by a signal, or because it could not start
		close(ended)
	}()
}

// Kill ends all processes of the server at once, with no chance to save anything.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	pid := s.cmd.Process.Pid
	_ = syscall.Kill(pid, syscall.SIGSTOP) // an error means that it has ended; else it starts no more processes
	for _, child := range children(pid) {
		_ = syscall.Kill(child, syscall.SIGKILL) // likewise
	}
	_ = syscall.Kill(pid, syscall.SIGKILL) // likewise
	<-s.ended
}

// children returns the processes that a process started. Where there is no /proc it returns none; then the server's end by
// themselves once they notice that it has.
func children(pid int) (pids []int) {
	path := fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)
	text, _ := os.ReadFile(path) // there may be none
	for _, field := range strings.Fields(string(text)) {
		if child, err := strconv.Atoi(field); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}

// Database makes an empty database and returns its URL.
func (s *Server) Database() string {
	s.t.Helper()
	s.databases++
	name := fmt.Sprintf("app%d", s.databases)
	conn := Connect(s.t, s.url("postgres"))
	defer conn.Close(context.Background())
	if _, err := conn.Exec(s.t.Context(), "CREATE DATABASE "+name); err != nil {
		s.t.Fatal(err)
	}
	return s.url(name)
}

func (s *Server) url(database string) string {
	return "postgres://app@127.0.0.1:" + s.port + "/" + database + "?sslmode=disable"
}

// Connect opens a connection that is closed when the test ends.
func Connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// run runs one of PostgreSQL's programs to its end.
func (s *Server) run(program string, args ...string) {
	s.t.Helper()
	if out, err := s.command(program, args...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// command returns one of PostgreSQL's programs. As root it runs as the user postgres.
func (s *Server) command(program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), filepath.Join(s.bin, program), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC"}
	if os.Getuid() == 0 {
		uid, gid := ids(s.t)
		credential := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	}
	return cmd
}

// own gives a file to the user that the server runs as.
func (s *Server) own(name string) {
	s.t.Helper()
	if os.Getuid() != 0 {
		return
	}
	uid, gid := ids(s.t)
	if err := os.Chown(name, uid, gid); err != nil {
		s.t.Fatal(err)
	}
}

// ids returns the user and group that PostgreSQL runs as if the test is root.
func ids(t testing.TB) (uid, gid int) {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ = strconv.Atoi(u.Uid) // they are numbers on all systems that have a user postgres
	gid, _ = strconv.Atoi(u.Gid)
	return uid, gid
}

// folder makes a folder that the server's user can reach. T.TempDir is for the test's own user.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "testpostgres") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // by then the server was killed
	(&Server{t: t}).own(dir)
	return dir
}

// programs returns the folder of PostgreSQL's programs: that of its newest version where Debian puts them, or one in PATH.
func programs(t testing.TB) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is right
	if path, err := exec.LookPath("initdb"); err == nil {
		found = append(found, path)
	}
	if len(found) == 0 {
		if os.Getenv("REQUIRE_POSTGRES") == "1" {
			t.Fatal("REQUIRE_POSTGRES=1, but there is no PostgreSQL: apt-get install postgresql")
		}
		t.Skip("there is no PostgreSQL: apt-get install postgresql")
	}
	return filepath.Dir(slices.Max(found))
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
