package main_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/config"
)

// What docker-compose.yml and Dockerfile say of the program is so. That they work is shown by scripts/compose-check, which
// needs a real engine.

func TestComposeSettings(t *testing.T) {
	known := map[string]bool{}
	for _, row := range table(t, "README.md", "setting") {
		known["POSTRIDER_"+strings.ToUpper(strings.ReplaceAll(row[0], "-", "_"))] = true
	}
	for _, file := range []string{"docker-compose.yml", "Dockerfile"} {
		names := regexp.MustCompile(`\bPOSTRIDER_[A-Z_]+`).FindAllString(uncommented(t, file), -1)
		if len(names) < 2 {
			t.Errorf("%s: only %d settings found", file, len(names))
		}
		for _, name := range names {
			if !known[name] {
				t.Errorf("%s sets %s, which is no setting", file, name)
			}
		}
	}
}

// TestComposeSecrets holds that no secret has a default: Compose ends with an error where one is not set.
func TestComposeSecrets(t *testing.T) {
	for _, name := range []string{"POSTRIDER_API_TOKENS", "POSTRIDER_MASTER_KEY", "VALKEY_PASSWORD"} {
		uses := regexp.MustCompile(`\$\{?`+name+`[^}]*`).FindAllString(uncommented(t, "docker-compose.yml"), -1)
		if len(uses) == 0 {
			t.Errorf("%s is not used", name)
		}
		for _, use := range uses {
			if !strings.HasPrefix(use, "${"+name+":?") {
				t.Errorf("%s} does not insist on a value", use)
			}
		}
	}
}

// TestComposeGivesNodesTime holds that a node is not killed before its own time to stop is over.
func TestComposeGivesNodesTime(t *testing.T) {
	node, _, _ := strings.Cut(uncommented(t, "docker-compose.yml"), "\nservices:")
	m := regexp.MustCompile(`(?m)^  stop_grace_period: (\S+)`).FindStringSubmatch(node)
	if m == nil {
		t.Fatal("no stop_grace_period for nodes")
	}
	grace, err := time.ParseDuration(m[1])
	if err != nil {
		t.Fatal(err)
	}
	none := func(string) (string, bool) { return "", false }
	cfg, err := config.Parse(nil, none, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if grace < cfg.ShutdownTimeout+10*time.Second {
		t.Errorf("nodes are killed after %s; they need %s to stop, and a little more to let go of the store", grace, cfg.ShutdownTimeout)
	}
}

// uncommented returns the lines of a file without what is behind a #.
func uncommented(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?m)(^| )#.*$`).ReplaceAllString(string(text), "")
}
