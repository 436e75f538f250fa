package main

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

	"github.com/postrider/postrider/internal/testinbox"
)

// TestPrivateKeyNeverShows looks for the private key in all that a node writes and answers, whatever is done with it.
func TestPrivateKeyNeverShows(t *testing.T) {
	t.Parallel()
	h := startHosts(t, 2, func(i int) testinbox.Options {
		return replies(testinbox.Reply{Status: []int{202, 500}[i]})
	})
	node := startNode(t, "--log-level", "debug")
	a := node.accept(submission{activity: like("1"), inboxes: h.urls()})
	eventually(t, "one is delivered and one fails", func() bool {
		return node.activity(a).Counts.Delivered == 1 && node.host(h.Host(1)).Breaker.Failures > 0
	})
	node.putKey(keyID) // again
	secrets := keySecrets()
	scanFolder(t, node.dir, secrets)
	answers := carelessCalls(node)
	for _, path := range []string{
		"/v1/keys", "/v1/hosts", "/v1/dead-letters", "/v1/stats", "/metrics", "/healthz", "/readyz", "/openapi.json",
		a.URL, a.URL + "/deliveries", "/v1/hosts/" + url.PathEscape(h.Host(1)),
	} {
		answers = append(answers, node.call(http.MethodGet, path, ""))
	}
	for _, a := range answers {
		scan(t, "an answer", []byte(a.body), secrets)
	}
	node.restart()
	scanFolder(t, node.dir, secrets)
	node.stop()
	scanFolder(t, node.dir, secrets)
	scan(t, "the log", []byte(node.out.String()), secrets)
	if !strings.Contains(node.out.String(), `"http.request"`) {
		t.Error("the log says nothing, so that nothing could be found in it")
	}
}

// carelessCalls are calls that carry the key to where it does not belong.
func carelessCalls(node *testNode) []answer {
	key := toJSON(privatePEM())
	return []answer{
		node.call(http.MethodPut, "/v1/keys", `{"key_id":"k","private_key_pem":`+key),
		node.call(http.MethodPut, "/v1/keys", `{"key_id":`+key+`,"private_key_pem":`+key+`}`),
		node.call(http.MethodPut, "/v1/keys", `{"key_id":"k","private_key_pem":`+strings.Replace(key, "PRIVATE", "SECRET", 1)+`}`),
		node.call(http.MethodPut, "/v1/keys", `{"key_id":"k","private_key":`+key+`}`),
		node.call(http.MethodPut, "/v1/keys", `{"key_id":"k",`+key+`:1}`),
		node.call(http.MethodPut, "/v1/keys", privatePEM()),
		node.call(http.MethodPut, "/v1/keys", key),
		node.call(http.MethodPost, "/v1/activities", `{"key_id":`+key+`,"activity":`+like("1")+`,"inboxes":["https://one.example/"]}`),
		node.call(http.MethodPost, "/v1/activities", `{`+key+`:1}`),
		node.call(http.MethodDelete, "/v1/keys?key_id="+url.QueryEscape(privatePEM()), ""),
		node.call(http.MethodGet, "/v1/hosts/"+url.PathEscape(privatePEM()), ""),
		node.call(http.MethodGet, "/v1/hosts?state="+url.QueryEscape(privatePEM()), ""),
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
		part := number[8:72] // enough to be sure, however it is cut
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
