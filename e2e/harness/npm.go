package harness

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

// RequireNode skips the test where there is no Node.js, or one too old, and fails it instead if REQUIRE_NODE=1.
func RequireNode(t *testing.T) {
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

// InstallPackages installs the npm packages of a folder's lock file into its node_modules, unless they are there already.
func InstallPackages(t *testing.T, dir string) {
	t.Helper()
	lock := flock.New(filepath.Join(dir, "node_modules.lock"))
	if err := lock.Lock(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Unlock() }() // the end of the process does it too
	want, stamp := fingerprint(t, dir), filepath.Join(dir, "node_modules", ".postrider")
	if got, err := os.ReadFile(stamp); err == nil && string(got) == want {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	if err := os.WriteFile(stamp, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
}

func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	hash := sha256.New()
	for _, name := range []string{"package.json", "package-lock.json"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		hash.Write(text)
	}
	return hex.EncodeToString(hash.Sum(nil))
}
