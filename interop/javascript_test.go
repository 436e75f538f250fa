package interop

import (
	"bufio"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

// javascript is the process of the JavaScript verifiers.
type javascript struct {
	ports map[string]int // by the protocol of the inbox
}

// startJavascript starts it with the keys that actors publish; it ends with the test.
func startJavascript(t *testing.T, published map[string]crypto.PublicKey) *javascript {
	t.Helper()
	install(t)
	pems := make(map[string]string)
	for id, public := range published {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		pems[id] = encode("PUBLIC KEY", der)
	}
	argument, err := json.Marshal(pems)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), "node", "verifiers.mjs", string(argument))
	cmd.Dir, cmd.Stderr = "testdata", os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close() // ends it
		if err := cmd.Wait(); err != nil {
			t.Errorf("verifiers.mjs ended: %v", err)
		}
	})
	j := &javascript{}
	if err := json.NewDecoder(stdout).Decode(&j.ports); err != nil {
		t.Fatalf("verifiers.mjs said no ports: %v", err)
	}
	return j
}

// requireNode skips the test where there is no Node.js, or one too old, and fails it instead if REQUIRE_NODE=1.
func requireNode(t *testing.T) {
	t.Helper()
	version, err := exec.CommandContext(t.Context(), "node", "--version").Output()
	major, _, _ := strings.Cut(strings.TrimPrefix(string(version), "v"), ".")
	if n, _ := strconv.Atoi(major); err == nil && n >= 20 {
		if _, err = exec.LookPath("npm"); err == nil {
			return
		}
	}
	give := t.Skipf
	if os.Getenv("REQUIRE_NODE") == "1" {
		give = t.Fatalf
	}
	give("Node.js 20 or later and npm are needed; node is %q (%v): apt-get install nodejs npm", strings.TrimSpace(string(version)), err)
}

// install makes testdata/node_modules be what the lock file says. It does nothing where that is so already.
func install(t *testing.T) {
	t.Helper()
	lock := flock.New(filepath.Join("testdata", "node_modules.lock"))
	if err := lock.Lock(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Unlock() }() // the end of the process does it too
	want, stamp := fingerprint(t), filepath.Join("testdata", "node_modules", ".postrider")
	if got, err := os.ReadFile(stamp); err == nil && string(got) == want {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = "testdata"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	if err := os.WriteFile(stamp, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
}

func fingerprint(t *testing.T) string {
	t.Helper()
	hash := sha256.New()
	for _, name := range []string{"package.json", "package-lock.json"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		hash.Write(text)
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// ask sends a request, byte for byte, and returns what the verifiers say.
func (j *javascript) ask(ctx context.Context, r *request) (verdicts map[string]string, err error) {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(j.ports[r.protocol]))
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, r.bytes()); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("verifiers.mjs answered %s", resp.Status)
	}
	return verdicts, json.NewDecoder(resp.Body).Decode(&verdicts)
}
