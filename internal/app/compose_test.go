package app

import (
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/postrider/postrider/internal/config"
)

// TestComposeSettings checks that the files of Compose and the Dockerfile use settings that exist. e2e/compose-check shows
// that they work, and needs a real engine.
func TestComposeSettings(t *testing.T) {
	for _, file := range []string{"docker-compose.yml", "docker-compose.override.example.yml", "Dockerfile"} {
		wantSettings(t, file, uncommented(t, file))
	}
}

// TestComposeSecrets checks that no secret has a default: Compose ends with an error if one is not set.
func TestComposeSecrets(t *testing.T) {
	files := uncommented(t, "docker-compose.yml") + uncommented(t, "docker-compose.override.example.yml")
	for _, name := range []string{"POSTRIDER_API_TOKENS", "POSTRIDER_MASTER_KEY", "POSTRIDER_TOKEN", "VALKEY_PASSWORD"} {
		uses := regexp.MustCompile(`\$\{?`+name+`[^}]*`).FindAllString(files, -1)
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

// TestComposeGivesNodesTime checks that a node is not killed before its own time-out for stopping.
func TestComposeGivesNodesTime(t *testing.T) {
	node, _, _ := strings.Cut(uncommented(t, "docker-compose.yml"), "\nservices:")
	m := regexp.MustCompile(`(?m)^  stop_grace_period: (\S+)`).FindStringSubmatch(node)
	if m == nil {
		t.Fatal("no stop_grace_period for nodes")
	}
	none := func(string) (string, bool) { return "", false }
	cfg, err := config.Parse(nil, none, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantTimeToStop(t, m[1], cfg)
}

// TestComposeProfiles checks that the demo starts with its profile only.
func TestComposeProfiles(t *testing.T) {
	got := map[string][]string{}
	for name, s := range composeServices(t, "docker-compose.yml") {
		profile := strings.Join(s.Profiles, " ")
		got[profile] = append(got[profile], name)
		slices.Sort(got[profile])
	}
	want := map[string][]string{"": {"postrider", "valkey"}, "demo": {"alice", "bob", "fediverse", "postrider-demo"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-) and have (+) by profile:\n%s", diff)
	}
}

// TestComposeApps checks that the apps of the demo set what their program reads, that their build finds its files, and that
// they name services that exist.
func TestComposeApps(t *testing.T) {
	all := composeServices(t, "docker-compose.yml")
	for _, name := range []string{"alice", "bob"} {
		app := all[name]
		program := uncommented(t, path.Join(app.Build.Context, "example/app.js"))
		for variable, value := range app.Environment {
			if !regexp.MustCompile(`\b` + variable + `\b.*= process\.env`).MatchString(program) {
				t.Errorf("%s sets %s, which its program does not read", name, variable)
			}
			checkService(t, all, name, value)
		}
		if want := "http://" + name + ":3000"; app.Environment["ORIGIN"] != want {
			t.Errorf("the origin of %s is %s, others find it at %s", name, app.Environment["ORIGIN"], want)
		}
		dockerfile := uncommented(t, path.Join(app.Build.Context, app.Build.Dockerfile))
		for _, arg := range app.Build.Args {
			if !regexp.MustCompile(`(?m)^ARG ` + arg + `\b`).MatchString(dockerfile) {
				t.Errorf("the build of %s gets %s, which its Dockerfile does not declare", name, arg)
			}
		}
	}
}

// TestComposeOverride checks the example of an app beside the fleet: it adds an app, which reaches the nodes and not Valkey.
func TestComposeOverride(t *testing.T) {
	all := composeServices(t, "docker-compose.yml")
	for name, s := range composeServices(t, "docker-compose.override.example.yml") {
		if _, known := all[name]; known {
			continue
		}
		all[name] = s
		if len(s.Networks) > 0 {
			t.Errorf("%s is on the networks %v, want only the default one", name, s.Networks)
		}
		if got := s.Environment["POSTRIDER_URL"]; got != "http://postrider:8080" {
			t.Errorf("%s calls %q", name, got)
		}
		if _, waits := s.DependsOn["postrider"]; !waits {
			t.Errorf("%s waits for no node", name)
		}
	}
	if all["app"].Environment["POSTRIDER_TOKEN"] == "" {
		t.Error("the example has no app with a token")
	}
}

// checkService checks that a value of a service's environment names another service, if it is a URL.
func checkService(t *testing.T, all map[string]composeService, name, value string) {
	t.Helper()
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "http" {
		return
	}
	if _, known := all[u.Hostname()]; !known {
		t.Errorf("%s names %s, and there is no service %s", name, value, u.Hostname())
	}
}

// composeService is what the tests look at in a service of Compose.
type composeService struct {
	Profiles    []string
	Environment map[string]string
	Networks    []string
	DependsOn   map[string]any `yaml:"depends_on"`
	Build       struct {
		Context, Dockerfile string
		Args                []string
	}
}

// composeServices returns the services of a file of Compose.
func composeServices(t *testing.T, file string) map[string]composeService {
	t.Helper()
	text, err := fs.ReadFile(repository, file)
	if err != nil {
		t.Fatal(err)
	}
	var parsed struct{ Services map[string]composeService }
	if err := yaml.Unmarshal(text, &parsed); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return parsed.Services
}

// uncommented returns the lines of a file without what is behind a #.
func uncommented(t *testing.T, file string) string {
	t.Helper()
	text, err := fs.ReadFile(repository, file)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?m)(^| )#.*$`).ReplaceAllString(string(text), "")
}
