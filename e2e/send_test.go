package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// sendTo runs send with a like and a key, and returns its exit code and output.
func sendTo(t *testing.T, inbox, key string, args ...string) (code int, out, said string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	args = append([]string{
		"send", inbox, write("like.json", like("1")), "--key-id", keyID, "--key-file", write("key.pem", key), "--allow-http",
		"--user-agent", "Test (+https://app.example/)",
	}, args...)
	code, out, said = harness.RunOnce(t, nil, args...)
	if strings.Contains(out+said, strings.Split(key, "\n")[1]) {
		t.Error("the private key is shown")
	}
	return code, out, said
}

const allowLoopback = "--allow-private-addresses=127.0.0.0/8"

// TestSend checks that one attempt is made without a node, and that all of it is shown.
func TestSend(t *testing.T) {
	h := startHost(t, replies(testinbox.Reply{Status: http.StatusAccepted, Header: http.Header{"X-Receiver": {"strict"}}, Body: "thanks\n"}))
	code, out, said := sendTo(t, h.Inbox(0, "/users/bob/inbox?a=%20b"), privatePEM(), allowLoopback)
	if code != 0 || said != "" || h.count() != 1 {
		t.Fatalf("exit code %d, %d requests, %s\n%s", code, h.count(), said, out)
	}
	got := h.inboxes[0].Received()[0]
	if !got.Valid || got.ActivityID != "https://app.example/likes/1" || got.Scheme != testinbox.Cavage {
		t.Errorf("received %+v", got)
	}
	out = regexp.MustCompile(`(?m)^< (Date|Content-Length|Content-Type): .*\n`).ReplaceAllString(out, "")
	want := "POST to " + h.Inbox(0, "/users/bob/inbox?a=%20b") + "\n" +
		"> POST /users/bob/inbox?a=%20b\n> Host: " + h.Host(0) + "\n> Content-Length: " + got.Header.Get("Content-Length") + "\n"
	for _, name := range []string{"Accept", "Content-Type", "Date", "Digest", "Signature", "User-Agent"} {
		want += "> " + name + ": " + got.Header.Get(name) + "\n"
	}
	want += ">\n> " + like("1") + "\n< HTTP/1.1 202 Accepted\n< X-Receiver: strict\n<\n< thanks\n\noutcome: delivered\n"
	if diff := cmp.Diff(want, out); diff != "" {
		t.Error(diff)
	}
}

// TestSendKnocksAgain checks that both requests are shown where a host refuses the first signature.
func TestSendKnocksAgain(t *testing.T) {
	h := startHost(t, testinbox.Options{Accept: []testinbox.Scheme{testinbox.RFC9421}})
	code, out, said := sendTo(t, h.Inbox(0, "/inbox"), privatePEM(), allowLoopback)
	if code != 0 || h.count() != 2 {
		t.Errorf("exit code %d, %d requests, %s", code, h.count(), said)
	}
	inOrder := `(?s)> Signature: keyId=.*< HTTP/1.1 401 .*< signature scheme cavage is not understood.*> Signature-Input: .*< HTTP/1.1 202 .*outcome: delivered`
	if !regexp.MustCompile(inOrder).MatchString(out) {
		t.Errorf("shown was:\n%s", out)
	}
}

// TestSendFails checks what is shown of a signature that is refused, of text that would harm a terminal, and of a host that
// does not answer.
func TestSendFails(t *testing.T) {
	_, other, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h := startHost(t, testinbox.Options{})
	harmful := startHost(t, replies(testinbox.Reply{Status: http.StatusForbidden, Header: http.Header{"X-A": {"\u202ered"}}, Body: "no\x1b]0;title\x07\n"}))
	for name, tt := range map[string]struct{ inbox, key, allow, out, said string }{
		"another key":       {h.Inbox(0, "/inbox"), pemOf(other), allowLoopback, `< rfc9421: .*does not match key`, "unauthorized"},
		"harmful text":      {harmful.Inbox(0, "/inbox"), privatePEM(), allowLoopback, `(?s)< X-A: red\n.*< no\]0;title\n\noutcome: rejected`, "rejected"},
		"no answer":         {nobody, privatePEM(), allowLoopback, `(?s)< no answer: .*refused.*outcome: unreachable: `, "unreachable"},
		"a private address": {h.Inbox(0, "/inbox"), privatePEM(), "--allow-private-addresses=10.0.0.0/8", "^$", "private_address: "},
	} {
		code, out, said := sendTo(t, tt.inbox, tt.key, tt.allow)
		if code != 1 || !regexp.MustCompile(tt.out).MatchString(out) || strings.Contains(out, "\x1b") {
			t.Errorf("%s: exit code %d, shown was:\n%s", name, code, out)
		}
		if !strings.HasPrefix(said, "postrider: send: ") || !strings.Contains(said, tt.said) || strings.Count(said, "\n") != 1 {
			t.Errorf("%s: %s", name, said)
		}
	}
}

// TestSendUsage checks what is refused before anything is sent.
func TestSendUsage(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, []byte("[]"), 0o600); err != nil {
		t.Fatal(err)
	}
	const inbox = "https://one.example/inbox"
	for want, args := range map[string][]string{
		"missing flags: --key-file=FILE":                {inbox, file, "--key-id", keyID},
		"a private key is never an argument":            {inbox, file, "--key-id", keyID, "--key-file", privatePEM()},
		"standard input holds the activity":             {inbox, "-", "--key-id", keyID, "--key-file", "-"},
		"activity: the file is no JSON object":          {inbox, file, "--key-id", keyID, "--key-file", file},
		"http_not_allowed: only https inboxes are":      {"http://one.example/inbox", file, "--key-id", keyID, "--key-file", file},
		"inbox: private_address: private or special":    {"https://10.0.0.1/inbox", file, "--key-id", keyID, "--key-file", file},
		"open " + dir + "/none: no such file or direct": {inbox, dir + "/none", "--key-id", keyID, "--key-file", file},
	} {
		code, out, said := harness.RunOnce(t, nil, append([]string{"send"}, args...)...)
		if code == 0 || out != "" || !strings.Contains(said, want) || strings.Contains(said, "BEGIN") {
			t.Errorf("%v: exit code %d, %s%s", args, code, out, said)
		}
	}
	if entries, err := os.ReadDir("postrider-data"); err == nil {
		t.Errorf("something was stored: %v", entries)
	}
}
