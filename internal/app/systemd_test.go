package app

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/config"
)

const unitFile = "deploy/systemd/postrider.service"

// TestSystemdUnit checks that systemd knows every line of the unit, and how little it leaves to the node.
func TestSystemdUnit(t *testing.T) {
	requireSystemd(t)
	text, err := fs.ReadFile(repository, unitFile)
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "postrider.service")
	installed := strings.ReplaceAll(string(text), "/usr/local/bin/postrider", "/bin/true")
	if err := os.WriteFile(unit, []byte(installed), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", unit).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("verify: %v\n%s", err, out)
	}
	const exposure = "15" // tenths, of 100; what takes from the rest would take the network from the node
	if out, err := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold="+exposure, unit).CombinedOutput(); err != nil {
		t.Errorf("the node is exposed more than %s: %v\n%s", exposure, err, out)
	}
}

// TestSystemdMakesUserAndFolders has systemd make the user and the folders in a root of their own. Only root may give folders
// to others, so without it systemd only reads what it is told.
func TestSystemdMakesUserAndFolders(t *testing.T) {
	requireSystemd(t)
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	dry := []string{"--dry-run"}
	if os.Getuid() == 0 {
		dry = nil
	}
	run := func(name string, args ...string) {
		if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	folder, err := filepath.Abs("../../deploy/systemd")
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(folder, name) }
	run("systemd-sysusers", append(dry, "--root="+root, file("postrider.sysusers"))...)
	if dry != nil {
		return
	}
	run("systemd-tmpfiles", "--root="+root, "--create", file("postrider.tmpfiles"))
	for folder, want := range map[string]fs.FileMode{"/etc/postrider": 0o750, "/var/lib/postrider": 0o700} {
		if info, err := os.Stat(root + folder); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s is %v, want %v: %v", folder, info, want, err)
		}
	}
}

// requireSystemd skips the test where there is no systemd-analyze, and fails it instead if REQUIRE_SYSTEMD=1.
func requireSystemd(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		give := t.Skipf
		if os.Getenv("REQUIRE_SYSTEMD") == "1" {
			give = t.Fatalf
		}
		give("systemd-analyze is needed: apt-get install systemd (%v)", err)
	}
}

// TestSystemdSettings checks that the unit uses settings that exist, gives a node time to stop, and has the user and the folders
// that systemd is told to make.
func TestSystemdSettings(t *testing.T) {
	unit := uncommented(t, unitFile)
	one := func(pattern string) string {
		t.Helper()
		m := regexp.MustCompile(`(?m)^` + pattern + `$`).FindStringSubmatch(unit)
		if m == nil {
			t.Fatalf("no line of the unit matches %s", pattern)
		}
		return m[1]
	}
	wantSettings(t, unitFile, unit)
	none := func(string) (string, bool) { return "", false }
	cfg, err := config.Parse(strings.Fields(one(`ExecStart=/usr/local/bin/postrider (.*)`)), none, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantTimeToStop(t, one(`TimeoutStopSec=(.*)`), cfg)
	user := one(`User=(.*)`)
	if users := uncommented(t, "deploy/systemd/postrider.sysusers"); !strings.HasPrefix(strings.TrimSpace(users), "u "+user+" ") {
		t.Errorf("systemd does not make the user %s: %s", user, users)
	}
	folders := uncommented(t, "deploy/systemd/postrider.tmpfiles")
	for _, folder := range []string{filepath.Dir(one(`EnvironmentFile=-(.*)`)), strings.TrimPrefix(one(`Environment=POSTRIDER_STORE=(.*)`), "embedded:")} {
		if !regexp.MustCompile(`(?m)^d ` + folder + ` \S+ \S+ ` + user + ` `).MatchString(folders) {
			t.Errorf("systemd does not make %s for %s: %s", folder, user, folders)
		}
	}
	if state := "/var/lib/" + one(`StateDirectory=(.*)`); "embedded:"+state != one(`Environment=POSTRIDER_STORE=(.*)`) {
		t.Errorf("the store is not in %s, the only folder that the node may write to", state)
	}
}

// wantSettings checks that all settings that a text names exist.
func wantSettings(t *testing.T, file, text string) {
	t.Helper()
	known := map[string]bool{}
	for _, row := range table(t, "docs/settings.md", "setting") {
		known["POSTRIDER_"+strings.ToUpper(strings.ReplaceAll(row[0], "-", "_"))] = true
	}
	names := regexp.MustCompile(`\bPOSTRIDER_[A-Z_]+`).FindAllString(text, -1)
	if len(names) == 0 {
		t.Errorf("%s: no settings found", file)
	}
	for _, name := range names {
		if !known[name] {
			t.Errorf("%s sets %s, which is no setting", file, name)
		}
	}
}

// wantTimeToStop checks that a node is not killed before its own time-out for stopping.
func wantTimeToStop(t *testing.T, text string, cfg *config.Config) {
	t.Helper()
	grace, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	if grace < cfg.ShutdownTimeout+10*time.Second {
		t.Errorf("nodes are killed after %s; they need %s to stop, and a little more to let go of the store", grace, cfg.ShutdownTimeout)
	}
}
