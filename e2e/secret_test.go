package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// TestPrivateKeyNeverShows looks for the private key in all logs, files and answers of a node.
func TestPrivateKeyNeverShows(t *testing.T) {
	t.Parallel()
	h := startHosts(t, 2, func(i int) testinbox.Options {
		return replies(testinbox.Reply{Status: []int{202, 500}[i]})
	})
	node := startNode(t, "--log-level", "debug")
	a := node.accept(submission{activity: like("1"), inboxes: h.urls()})
	harness.Eventually(t, "one is delivered and one fails", func() bool {
		return node.activity(a).Counts.Delivered == 1 && node.host(h.Host(1)).Breaker.Failures > 0
	})
	node.putKey(keyID) // again
	secrets := keySecrets()
	scanFolder(t, node.Dir, secrets)
	answers := carelessCalls(node)
	for _, path := range []string{
		"/v1/keys", "/v1/hosts", "/v1/dead-letters", "/v1/stats", "/metrics", "/healthz", "/readyz", "/openapi.json",
		a.URL, a.URL + "/deliveries", "/v1/hosts/" + url.PathEscape(h.Host(1)),
	} {
		answers = append(answers, node.Call(http.MethodGet, path, ""))
	}
	for _, a := range answers {
		scan(t, "an answer", []byte(a.Body), secrets)
	}
	node.Restart()
	scanFolder(t, node.Dir, secrets)
	node.Stop()
	scanFolder(t, node.Dir, secrets)
	scan(t, "the log", []byte(node.Out.String()), secrets)
	if !strings.Contains(node.Out.String(), `"http.request"`) {
		t.Error("the log says nothing, so that nothing could be found in it")
	}
}

// carelessCalls are calls with the key in a wrong place.
func carelessCalls(node *testNode) []harness.Answer {
	key := harness.JSON(privatePEM())
	return []harness.Answer{
		node.Call(http.MethodPut, "/v1/keys", `{"key_id":"k","private_key_pem":`+key),
		node.Call(http.MethodPut, "/v1/keys", `{"key_id":`+key+`,"private_key_pem":`+key+`}`),
		node.Call(http.MethodPut, "/v1/keys", `{"key_id":"k","private_key_pem":`+strings.Replace(key, "PRIVATE", "SECRET", 1)+`}`),
		node.Call(http.MethodPut, "/v1/keys", `{"key_id":"k","private_key":`+key+`}`),
		node.Call(http.MethodPut, "/v1/keys", `{"key_id":"k",`+key+`:1}`),
		node.Call(http.MethodPut, "/v1/keys", privatePEM()),
		node.Call(http.MethodPut, "/v1/keys", key),
		node.Call(http.MethodPost, "/v1/activities", `{"key_id":`+key+`,"activity":`+like("1")+`,"inboxes":["https://one.example/"]}`),
		node.Call(http.MethodPost, "/v1/activities", `{`+key+`:1}`),
		node.Call(http.MethodDelete, "/v1/keys?key_id="+url.QueryEscape(privatePEM()), ""),
		node.Call(http.MethodGet, "/v1/hosts/"+url.PathEscape(privatePEM()), ""),
		node.Call(http.MethodGet, "/v1/hosts?state="+url.QueryEscape(privatePEM()), ""),
	}
}

// keySecrets are parts of the private key, in the forms in which they might be written.
func keySecrets() map[string][]byte {
	secrets := map[string][]byte{}
	numbers := [][]byte{privateKey().D.Bytes()}
	for _, p := range privateKey().Primes {
		numbers = append(numbers, p.Bytes())
	}
	for i, number := range numbers {
		part := number[8:72] // long enough to be unique, short enough for any line length
		secrets[fmt.Sprintf("number %d", i)] = part
		secrets[fmt.Sprintf("number %d in hexadecimal", i)] = []byte(hex.EncodeToString(part))
		for shift := range 3 {
			secrets[fmt.Sprintf("number %d in base64 from byte %d", i, shift)] = []byte(base64.RawStdEncoding.EncodeToString(part[shift : 60+shift]))
		}
	}
	lines := strings.Split(strings.TrimSpace(privatePEM()), "\n")
	for i := 8; i < len(lines)-1; i++ { // what goes before holds the public key too
		secrets[fmt.Sprintf("line %d of the PEM", i)] = []byte(lines[i])
	}
	return secrets
}

func scanFolder(t *testing.T, dir string, secrets map[string][]byte) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", file, info.Mode())
		}
		text, err := os.ReadFile(file)
		scan(t, file, text, secrets)
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%d files in the folder, %v", files, err)
	}
}

func scan(t *testing.T, where string, text []byte, secrets map[string][]byte) {
	t.Helper()
	for name, secret := range secrets {
		if bytes.Contains(text, secret) {
			t.Errorf("%s is in %s", name, where)
		}
	}
}
