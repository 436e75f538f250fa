package e2e

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
)

// TestBadSettingsEndAtOnce checks that a bad setting ends the program with 2 and one line that names it.
func TestBadSettingsEndAtOnce(t *testing.T) {
	t.Parallel()
	store := "--store=embedded:" + filepath.Join(t.TempDir(), "never-made")
	for name, row := range map[string]struct {
		args, environ []string
		says          []string
	}{
		"public without tokens":  {args: []string{"--listen", "0.0.0.0:0"}, says: []string{"listen", "0.0.0.0:0", "api-tokens"}},
		"all without tokens":     {args: []string{"--listen", ":0"}, says: []string{"listen", "api-tokens"}},
		"IPv6 without tokens":    {args: []string{"--listen", "[::]:0"}, says: []string{"listen", "api-tokens"}},
		"public by the variable": {environ: []string{"POSTRIDER_LISTEN=0.0.0.0:0"}, says: []string{"POSTRIDER_LISTEN"}},
		"no address":             {args: []string{"--listen", "8080"}, says: []string{"listen", "8080"}},
		"duration":               {args: []string{"--retry-base", "15"}, says: []string{"retry-base", "15", "90s"}},
		"duration by variable":   {environ: []string{"POSTRIDER_RETRY_BASE=soon"}, says: []string{"retry-base", "soon", "POSTRIDER_RETRY_BASE"}},
		"negative":               {args: []string{"--delivery-ttl=-1h"}, says: []string{"delivery-ttl", "-1h"}},
		"number":                 {args: []string{"--concurrency", "many"}, says: []string{"concurrency", "many"}},
		"nought":                 {args: []string{"--host-concurrency", "0"}, says: []string{"host-concurrency", "0"}},
		"prefix":                 {args: []string{"--allow-private-addresses", "10.0.0.0/33"}, says: []string{"allow-private-addresses", "10.0.0.0/33"}},
		"short token":            {args: []string{"--api-tokens", "app:short-secret"}, says: []string{"api-tokens", "16"}},
		"no file of tokens":      {args: []string{"--api-tokens", "@/nowhere/tokens"}, says: []string{"api-tokens", "/nowhere/tokens"}},
		"short master key":       {args: []string{"--master-key", "c2hvcnQ="}, says: []string{"master-key", "32 bytes"}},
		"store":                  {args: []string{"--store", "postgres://x"}, says: []string{"store"}},
		"signing":                {args: []string{"--signing", "magic"}, says: []string{"signing", "magic", "openssl"}},
		"level":                  {args: []string{"--log-level", "loud"}, says: []string{"log-level", "loud", "debug"}},
		"file of roots":          {args: []string{"--ca-file", "/nowhere/ca.pem"}, says: []string{"ca-file", "/nowhere/ca.pem"}},
		"redis without a key":    {args: []string{"--store", "redis://localhost"}, says: []string{"master-key"}},
		"unknown flag":           {args: []string{"--retry-bas", "1s"}, says: []string{"retry-bas"}},
		"unknown command":        {args: []string{"deliver"}, says: []string{"deliver"}},
	} {
		t.Run(name, func(t *testing.T) {
			args := row.args
			if !strings.Contains(strings.Join(args, " "), "--store") && name != "unknown command" {
				args = append([]string{store}, args...)
			}
			code, stdout, stderr := harness.RunOnce(t, row.environ, args...)
			if code != 2 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.HasSuffix(stderr, "\n") {
				t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
			}
			for _, part := range row.says {
				if !strings.Contains(stderr, part) {
					t.Errorf("%q does not name %q", stderr, part)
				}
			}
			if strings.Contains(stderr, "short-secret") || strings.Contains(stderr, "c2hvcnQ") {
				t.Errorf("a secret shows in %q", stderr)
			}
		})
	}
	if _, err := os.Stat(strings.TrimPrefix(store, "--store=embedded:")); err == nil {
		t.Error("a store was made though the settings were bad")
	}
}

func TestFlagsWinOverVariables(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := harness.RunOnce(t, []string{"POSTRIDER_RETRY_BASE=never"}, "--retry-base", "1s", "version")
	if code != 0 || stderr != "" || !strings.Contains(stdout, "postrider ") || !strings.Contains(stdout, "signing ") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	code, stdout, _ = harness.RunOnce(t, nil, "--help")
	if code != 0 || !strings.Contains(stdout, "--retry-base") {
		t.Errorf("help: exit code %d, %q", code, stdout)
	}
}

const (
	appToken = "app-secret-0123456789"
	opsToken = "ops-secret-9876543210"
)

// TestTokens checks that with tokens a node may listen on any address, and answers only calls with one.
func TestTokens(t *testing.T) {
	t.Parallel()
	node := newTestNode(t, false, []string{"--api-tokens", "app:" + appToken + ",ops:" + opsToken, "--log-level", "debug"})
	node.Listen = farAddress(t)
	node.Token = opsToken
	node.begin()
	routes := []string{
		"/v1/keys", "/v1/hosts", "/v1/hosts/one.example", "/v1/dead-letters", "/v1/stats", "/v1/activities/x",
		"/v1/activities/x/deliveries", "/v1/events", "/metrics", "/v1/nothing",
	}
	for _, token := range []string{"", "wrong-secret-0123456789", appToken[:len(appToken)-1], appToken + "x", "app:" + appToken} {
		node.Token = token
		for _, path := range routes {
			a := node.Call(http.MethodGet, path, "")
			if _, err := problemOf(a); a.Status != http.StatusUnauthorized || err != nil || !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s with token %q: %d %v %s", path, token, a.Status, err, a.Body)
			}
		}
		for _, method := range []string{http.MethodPost, http.MethodDelete, http.MethodPut} {
			if a := node.Call(method, "/v1/activities", "{}"); a.Status != http.StatusUnauthorized {
				t.Errorf("%s with token %q: %d", method, token, a.Status)
			}
		}
		for _, path := range []string{"/healthz", "/readyz", "/openapi.json"} {
			if a := node.Call(http.MethodGet, path, ""); a.Status != http.StatusOK {
				t.Errorf("%s with token %q: %d", path, token, a.Status)
			}
		}
	}
	for _, token := range []string{appToken, opsToken} {
		node.Token = token
		if got := get[page[keyView]](node, "/v1/keys").Items; len(got) != 1 || got[0].KeyID != keyID {
			t.Errorf("keys %+v", got)
		}
	}
	if log := node.Out.String(); strings.Contains(log, appToken) || strings.Contains(log, opsToken) {
		t.Error("a token is in the log")
	}
}

// farAddress returns an address that a node takes for a public one, though it is loopback: a name. If the system has no
// such name it returns plain loopback.
func farAddress(t *testing.T) string {
	t.Helper()
	names := []string{"ip6-localhost", "ip6-loopback", "localhost.localdomain"}
	if host, err := os.Hostname(); err == nil {
		names = append(names, host)
	}
	for _, name := range names {
		addresses, err := net.DefaultResolver.LookupHost(t.Context(), name)
		if err != nil || len(addresses) == 0 || !net.ParseIP(addresses[0]).IsLoopback() {
			continue
		}
		if code, _, stderr := harness.RunOnce(t, nil, "--listen", name+":0", "--store", "embedded:"+t.TempDir()); code != 2 || !strings.Contains(stderr, name) {
			t.Errorf("without tokens %s: exit code %d, %s", name, code, stderr)
		}
		return name + ":0"
	}
	return "127.0.0.1:0"
}

// TestFolderIsUsedByOne checks that a second node can't open a folder in use, and does not harm the first.
func TestFolderIsUsedByOne(t *testing.T) {
	t.Parallel()
	h := startHost(t, fine(0))
	first := startProcess(t)
	for _, process := range []bool{true, false} {
		second := newTestNode(t, process, nil)
		second.Dir = first.Dir
		second.Launch()
		second.Wait()
		said := second.Out.String()
		if second.Code() != 1 || !strings.Contains(said, first.Dir) || !strings.Contains(said, "in use by another process") || strings.Count(said, "\n") != 1 {
			t.Errorf("exit code %d: %s", second.Code(), said)
		}
	}
	if got := first.settled(first.deliver(like("1"), h.Inbox(0, "/inbox"))); got.Delivered != 1 {
		t.Errorf("counts %+v", got)
	}
}

// TestOtherMasterKeyIsRefused checks that a node does not start with a wrong master key.
func TestOtherMasterKeyIsRefused(t *testing.T) {
	t.Parallel()
	node := startNode(t)
	node.Stop()
	code, _, stderr := harness.RunOnce(t, nil, append(node.Command(), "--master-key", strings.Repeat("A", 43)+"=")...)
	if code != 1 || !strings.Contains(stderr, "master key") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	node := startNode(t)
	code, _, stderr := harness.RunOnce(t, nil, "--listen", node.Listen, "--store", "embedded:"+t.TempDir())
	if code != 1 || !strings.Contains(stderr, node.Listen) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	node := startNode(t)
	harness.Eventually(t, "the node is ready", func() bool { return node.Call(http.MethodGet, "/readyz", "").Status == http.StatusOK })
	if a := node.Call(http.MethodHead, "/healthz", ""); a.Status != http.StatusOK || a.Body != "" {
		t.Errorf("HEAD /healthz: %+v", a)
	}
	if doc := get[struct{ OpenAPI string }](node, "/openapi.json"); !strings.HasPrefix(doc.OpenAPI, "3.") {
		t.Errorf("OpenAPI %q", doc.OpenAPI)
	}
	if a := node.Call(http.MethodGet, "/", ""); a.Status != http.StatusOK || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") {
		t.Errorf("dashboard: %d %v", a.Status, a.Header)
	}
	if a := node.Call(http.MethodGet, "/metrics", ""); a.Status != http.StatusOK || !strings.Contains(a.Body, "postrider_") {
		t.Errorf("metrics: %d %.200s", a.Status, a.Body)
	}
}

// TestDemo checks that the demo ends with 0 only if all healthy inboxes got everything, and that its API requires
// the tokens of the settings.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	t.Parallel()
	var out harness.Output
	demo := harness.Start(&out, "demo", "--exit", "--listen", "127.0.0.1:0", "--api-tokens", "app:"+appToken)
	t.Cleanup(func() { demo.Signal(harness.Terminate) })
	var address []string
	harness.Eventually(t, "the demo tells where its node is", func() bool {
		address = regexp.MustCompile(`the node is at (\S+)`).FindStringSubmatch(out.String())
		return address != nil
	})
	answer, err := http.Get(address[1] + "/v1/stats")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("without the token, the demo's node answers %s", answer.Status)
	}
	select {
	case <-demo.Done():
	case <-time.After(2 * harness.Patience):
	}
	if !demo.Ended() || demo.Code() != 0 {
		t.Fatalf("the demo did not end well:\n%s", out.String())
	}
	for _, part := range []string{"10800 of 10800", "healthy", "RFC 9421 only", "hanging"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("the summary has no %q:\n%s", part, out.String())
		}
	}
}
