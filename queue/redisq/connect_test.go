package redisq

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/testcert"
	"github.com/postrider/postrider/internal/testredis"
)

// tryStore opens a store and has it do something of everything.
func tryStore(t *testing.T, o Options) *Store {
	t.Helper()
	o.Prefix = "postrider"
	s := openStore(t, o)
	enqueue(t, s, submission("1", 10, "a.example"))
	leases, err := s.Leases(time.Minute).Acquire(t.Context(), []string{"a.example"})
	if err != nil || len(leases) != 1 {
		t.Fatalf("Acquire gave %d leases, %v", len(leases), err)
	}
	turns, err := s.Take(t.Context(), leases, 1)
	if err != nil || len(turns) != 1 || len(turns[0].Deliveries) != 1 {
		t.Fatalf("Take gave %+v, %v", turns, err)
	}
	return s
}

// refuses checks that no store can be opened, and what the error says.
func refuses(t *testing.T, o Options, says string) {
	t.Helper()
	o.Prefix = "postrider"
	s, err := Open(t.Context(), o)
	if err == nil {
		t.Errorf("%s was opened", o.URL)
		_ = s.Close()
	} else if !strings.Contains(err.Error(), says) {
		t.Errorf("%s: %v, want %q", o.URL, err, says)
	}
}

func TestSocket(t *testing.T) {
	server, path := testredis.StartSocket(t, "--requirepass", "sesame")
	tryStore(t, Options{URL: "redis+unix://:sesame@" + path + "?db=2"})
	refuses(t, Options{URL: "redis+unix://" + path}, "it wants a password")
	refuses(t, Options{URL: "redis+unix://" + path + ".not"}, "no such file")
	if _, err := server.Command("PING"); err == nil {
		t.Error("the server takes anybody")
	}
}

// TestGuardedSentinel checks that a store on sentinels with a password goes with the master when that changes.
func TestGuardedSentinel(t *testing.T) {
	t.Parallel()
	sentinel := testredis.StartGuardedSentinel(t, "ses+ame")
	refuses(t, Options{URL: sentinel.URL()}, "it wants a password")
	refuses(t, Options{URL: sentinel.URL() + "?sentinel_password=wrong"}, "user or password is wrong")
	s := openStore(t, Options{URL: sentinel.URL() + "?sentinel_username=watcher&sentinel_password=ses+ame", Prefix: "other"})
	tryStore(t, Options{URL: sentinel.URL() + "?sentinel_password=ses+ame"})
	sentinel.Failover()
	for began := time.Now(); s.Ready(t.Context()) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("after the failover: %v", s.Ready(t.Context()))
		}
	}
	enqueue(t, s, submission("2", 10, "a.example"))
}

// TestTLS checks that a store trusts the authority that it is told to, shows its certificate, and takes others for
// connections made later.
func TestTLS(t *testing.T) {
	ca, stranger := testcert.New(t), testcert.New(t)
	served := ca.Issue("redis")
	server, address := testredis.StartTLS(t, ca.File, served.Cert, served.Key)
	url := "rediss://" + address
	settings := func(roots *testcert.Authority, mine *testcert.Authority) *tls.Config {
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if roots != nil {
			config.RootCAs = x509.NewCertPool()
			text, err := os.ReadFile(roots.File)
			if err != nil || !config.RootCAs.AppendCertsFromPEM(text) {
				t.Fatalf("%s: %v", roots.File, err)
			}
		}
		if mine != nil {
			p := mine.Issue("node")
			pair, err := tls.LoadX509KeyPair(p.Cert, p.Key)
			if err != nil {
				t.Fatal(err)
			}
			config.Certificates = []tls.Certificate{pair}
		}
		return config
	}
	var current atomic.Pointer[tls.Config]
	current.Store(settings(ca, ca))
	s := tryStore(t, Options{URL: url, TLS: current.Load})
	refuses(t, Options{URL: url}, "certificate")
	with := func(c *tls.Config) Options { return Options{URL: url, TLS: func() *tls.Config { return c }} }
	refuses(t, with(settings(stranger, ca)), "certificate")
	refuses(t, with(settings(ca, stranger)), "")
	refuses(t, with(settings(ca, nil)), "") // "certificate required", unless the connection is reset before that is read

	current.Store(settings(stranger, ca))
	server.Restart()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if err := s.Ready(t.Context()); err != nil && strings.Contains(err.Error(), "certificate") {
			break
		}
		if time.Since(began) > 20*time.Second {
			t.Fatal("a new connection goes by the old settings")
		}
	}
	current.Store(settings(ca, ca))
	for began := time.Now(); s.Ready(t.Context()) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("after its settings were mended: %v", s.Ready(t.Context()))
		}
	}
}

// TestCommandsAreNotUsedAgain checks that a command stays as it was made, whatever was answered to it and is sent after it.
func TestCommandsAreNotUsedAgain(t *testing.T) {
	client, err := Connect(Options{URL: testredis.Start(t).URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var commands []rueidis.Completed
	for i := range 4 {
		commands = append(commands, client.B().Echo().Message(strconv.Itoa(i)).Build())
	}
	for _, command := range commands[:2] {
		if err := client.Do(t.Context(), command).Error(); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range client.DoMulti(t.Context(), slices.Clone(commands[2:])...) {
		if err := r.Error(); err != nil {
			t.Fatal(err)
		}
	}
	for i, command := range commands {
		if got := strings.Join(command.Commands(), " "); got != "ECHO "+strconv.Itoa(i) {
			t.Errorf("command %d is %q now", i, got)
		}
	}
}
