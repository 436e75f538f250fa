package kits

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

func TestMain(m *testing.M) {
	harness.AsProgram()
	m.Run()
}

const (
	keyID = "https://app.example/users/alice#main-key"
	token = "a-token-for-the-kits"
)

// exact is the activity that every kit delivers to show that it changes no byte: no encoder writes JSON like this.
const exact = `{ "id":"https://app.example/a/exact/KIT" ,"type":"Create","actor":"https://app.example/users/alice",
	"object":{"id":"https://app.example/n/1\/KIT","content":"\u00fc – ü 🐎 <b>&amp;</b>","n":1.50e+1} }`

// exactOf returns the activity of a kit.
func exactOf(kit string) string { return strings.ReplaceAll(exact, "KIT", kit) }

var privateKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// rig is a node, the inboxes that it delivers to, and the environment of a kit's tests.
type rig struct {
	*harness.Node
	inbox   *testinbox.Inbox
	inboxes []string
	keyFile string
	standin *standin
	webhook *webhook
	environ []string
}

// newRig starts all that the tests of a kit need; it ends with the test.
func newRig(t *testing.T, kit string) *rig {
	t.Helper()
	r := &rig{
		inbox:   testinbox.New(testinbox.Options{Keys: publicKey, Script: answer}),
		keyFile: keyFile(t),
		standin: startStandin(t),
		webhook: startWebhook(t),
	}
	r.Node = harness.NewNode(t, "--api-tokens", "kits:"+token, "--webhook-url", r.webhook.url, "--webhook-secret", webhookSecret)
	r.Token = token
	r.Start()
	fleet, err := testinbox.StartFleet(2, func(int) http.Handler { return r.inbox })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := fleet.Close(); err != nil {
			t.Error(err)
		}
	})
	r.inboxes = []string{fleet.Inbox(0, "/inbox"), fleet.Inbox(1, "/inbox")}
	r.environ = append(os.Environ(), "PYTHONPATH="+absolute(t, "python"),
		"POSTRIDER_URL="+r.URL(""), "POSTRIDER_TOKEN="+token, "KIT_STANDIN="+r.standin.url,
		"KIT_INBOXES="+strings.Join(r.inboxes, " "), "KIT_KEY_ID="+keyID, "KIT_KEY_FILE="+r.keyFile, "KIT_EXACT="+exactOf(kit),
	)
	return r
}

// The ends of the paths of inboxes that take nothing.
const (
	gone    = "/gone"
	refused = "/refused"
)

func answer(r testinbox.Request) testinbox.Reply {
	switch {
	case strings.HasSuffix(r.Path, gone):
		return testinbox.Reply{Status: http.StatusGone}
	case strings.HasSuffix(r.Path, refused):
		return testinbox.Reply{Status: http.StatusForbidden}
	}
	return testinbox.Reply{}
}

func publicKey(id string) crypto.PublicKey {
	if id != keyID {
		return nil
	}
	return privateKey().Public()
}

func keyFile(t *testing.T) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(privateKey())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "alice.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// language returns the program that runs a language. Without it the test is skipped, or fails if it is required.
func language(t *testing.T, program, variable string) string {
	t.Helper()
	found, err := exec.LookPath(program)
	if err != nil && os.Getenv(variable) == "1" {
		t.Fatalf("%s=1, but there is no %s: make tools installs it", variable, program)
	}
	if err != nil {
		t.Skipf("there is no %s", program)
	}
	return found
}

// run runs a command in a folder, and returns what it wrote to its output.
func (r *rig) run(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = dir, r.environ
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// arrived waits until each inbox has an activity with this id, all of them validly signed, and returns the requests.
func (r *rig) arrived(t *testing.T, id string) (requests []testinbox.Request) {
	t.Helper()
	harness.Eventually(t, "all inboxes have "+id, func() bool {
		requests = requests[:0]
		hosts := map[string]bool{}
		for _, request := range r.inbox.Received() {
			if request.ActivityID == id {
				requests = append(requests, request)
				hosts[request.Host] = true
			}
		}
		return len(hosts) == len(r.inboxes)
	})
	for _, request := range requests {
		if !request.Valid {
			t.Errorf("%s arrived with a bad signature: %s", id, request.Reason)
		}
	}
	return requests
}

// arrivedExactly checks that the activity exact of a kit has arrived byte for byte, and once at each inbox.
func (r *rig) arrivedExactly(t *testing.T, kit string) {
	t.Helper()
	requests := r.arrived(t, "https://app.example/a/exact/"+kit)
	want := sha256.Sum256([]byte(exactOf(kit)))
	for _, request := range requests {
		if request.BodyHash != want {
			t.Errorf("the %s kit changed the bytes of the activity", kit)
		}
	}
	if len(requests) != len(r.inboxes) {
		t.Errorf("the activity of the %s kit arrived %d times at %d inboxes", kit, len(requests), len(r.inboxes))
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	whole, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return whole
}

// hostname returns a host without its port.
func hostname(host string) string {
	name, _, _ := strings.Cut(host, ":")
	return name
}
