package app

import (
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const releaseDir = "deploy/release"

// TestReleaseFiles checks, without making a release, that the scripts of it can be read by their shells, that the package takes
// what there is, and that its settings exist.
func TestReleaseFiles(t *testing.T) {
	for script, shell := range map[string]string{"build": "bash", "postinstall": "sh", "preremove": "sh", "postremove": "sh"} {
		file := filepath.Join("..", "..", releaseDir, script)
		if out, err := exec.CommandContext(t.Context(), shell, "-n", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
	}
	build := uncommented(t, path.Join(releaseDir, "build"))
	spec := uncommented(t, path.Join(releaseDir, "nfpm.yaml"))
	for _, m := range regexp.MustCompile(`(?:src|postinstall|preremove|postremove): "?([^",\s]+)`).FindAllStringSubmatch(spec, -1) {
		made, isMade := strings.CutPrefix(m[1], "${WORK}/share/")
		_, err := fs.Stat(repository, m[1])
		switch name, _, _ := strings.Cut(made, "."); {
		case isMade && !strings.Contains(build, made) && !strings.Contains(build, name):
			t.Errorf("the package takes %s, which deploy/release/build does not make", made)
		case !isMade && m[1] != "${WORK}/bin/linux-${ARCH}" && err != nil:
			t.Errorf("the package takes what is not there: %v", err)
		}
	}
	env, err := fs.ReadFile(repository, path.Join(releaseDir, "postrider.env"))
	if err != nil {
		t.Fatal(err)
	}
	wantSettings(t, "postrider.env", string(env))
}

// TestReleaseTargets checks that make crossbuild compiles for all systems that a release has.
func TestReleaseTargets(t *testing.T) {
	names := regexp.MustCompile(`for name in (.*); do`).FindStringSubmatch(uncommented(t, path.Join(releaseDir, "build")))
	targets := regexp.MustCompile(`(?m)^TARGETS := (.*)$`).FindStringSubmatch(uncommented(t, "Makefile"))
	if names == nil || targets == nil {
		t.Fatal("no systems found")
	}
	for name := range strings.FieldsSeq(names[1]) {
		target := strings.Replace(strings.TrimSuffix(name, "-static"), "-", "/", 1)
		if !slices.Contains(strings.Fields(targets[1]), target) {
			t.Errorf("a release has %s, and make crossbuild does not compile for %s", name, target)
		}
	}
}
