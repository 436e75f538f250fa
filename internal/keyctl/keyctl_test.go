package keyctl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/config"
)

const secretLine = "MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"

// node answers as a node might, and keeps the requests.
type node struct {
	*httptest.Server
	asked []string
	token string
}

func startNode(t *testing.T, answer func(w http.ResponseWriter, r *http.Request)) *node {
	t.Helper()
	n := &node{}
	n.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		n.asked = append(n.asked, strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Method, r.URL, body)))
		n.token = r.Header.Get("Authorization")
		answer(w, r)
	}))
	t.Cleanup(n.Close)
	return n
}

// says returns a handler that answers a status and a body.
func says(status int, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		if status >= 400 {
			w.Header().Set("Content-Type", "application/problem+json")
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func runCall(t *testing.T, n *node, call config.KeysCall, in string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	call.URL = n.URL
	err := Run(t.Context(), call, strings.NewReader(in), &out)
	if err != nil && (out.Len() > 0 || strings.ContainsAny(err.Error(), "\n\r")) {
		t.Errorf("output %q, error %q", &out, err)
	}
	if strings.Contains(out.String()+fmt.Sprint(err), secretLine) {
		t.Errorf("the key shows in %s, %v", &out, err)
	}
	return out.String(), err
}

func TestCalls(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, []byte("the key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const alice = `{"key_id":"a#1","algorithm":"rsa","fingerprint":"SHA256:x","sealed_with":"0123","created_at":"2026-01-02T03:04:05.000Z"}`
	put := `PUT /v1/keys {"key_id":"a#1","private_key_pem":"the key\n"}`
	for _, tt := range []struct {
		call   config.KeysCall
		in     string
		status int
		answer string
		asked  string
		out    string
	}{
		{config.KeysCall{Action: "add", KeyID: "a#1", File: file}, "", 201, alice, put, "added a#1: rsa, SHA256:x\n"},
		{config.KeysCall{Action: "add", KeyID: "a#1", File: "-"}, "the key\n", 200, alice, put, "replaced a#1: rsa, SHA256:x\n"},
		{config.KeysCall{Action: "remove", KeyID: "a#1&b"}, "", 204, "", "DELETE /v1/keys?key_id=a%231%26b", "removed a#1&b\n"},
		{config.KeysCall{Action: "reseal"}, "", 200, `{"total":20,"resealed":12,"failed":0,"seal":"89ab"}`, "POST /v1/keys/reseal",
			"resealed 12 of 20 keys; all are sealed with master key 89ab\n"},
		{config.KeysCall{Action: "list"}, "", 200, `{"items":[` + alice + `]}`, "GET /v1/keys?limit=500",
			"KEY ID  ALGORITHM  FINGERPRINT  SEALED WITH  CREATED AT\na#1     rsa        SHA256:x     0123         2026-01-02T03:04:05.000Z\n"},
		{config.KeysCall{Action: "list"}, "", 200, `{"items":[{"key_id":"a\u001b[31m\u202eb\u009bc"}]}`, "GET /v1/keys?limit=500",
			"KEY ID   ALGORITHM  FINGERPRINT  SEALED WITH  CREATED AT\na[31mbc                                       \n"},
		{config.KeysCall{Action: "list", JSON: true}, "", 200, `{"items":[]}`, "GET /v1/keys?limit=500", "[]\n"},
	} {
		tt.call.Token = config.NewSecret("hunter2")
		n := startNode(t, says(tt.status, tt.answer))
		out, err := runCall(t, n, tt.call, tt.in)
		if diff := cmp.Diff(tt.out, out); diff != "" || err != nil {
			t.Errorf("%+v: error %v, output %s", tt.call, err, diff)
		}
		if diff := cmp.Diff([]string{tt.asked}, n.asked); diff != "" || n.token != "Bearer hunter2" {
			t.Errorf("%+v: token %q, asked %s", tt.call, n.token, diff)
		}
	}
}

func TestListGoesThroughAllPages(t *testing.T) {
	n := startNode(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("cursor") {
		case "":
			_, _ = io.WriteString(w, `{"items":[{"key_id":"a","public_key_pem":"<p>"},{"key_id":"b"}],"next_cursor":"b+&"}`)
		case "b+&":
			_, _ = io.WriteString(w, `{"items":[{"key_id":"c"}]}`)
		}
	})
	out, err := runCall(t, n, config.KeysCall{Action: "list", JSON: true}, "")
	var got []map[string]string
	if err != nil || json.Unmarshal([]byte(out), &got) != nil {
		t.Fatalf("%s, error %v", out, err)
	}
	if diff := cmp.Diff([]map[string]string{{"key_id": "a", "public_key_pem": "<p>"}, {"key_id": "b"}, {"key_id": "c"}}, got); diff != "" {
		t.Error(diff)
	}
	if n.token != "" {
		t.Errorf("token %q", n.token)
	}
}

func TestErrorsTellWhatIsWrong(t *testing.T) {
	elsewhere := startNode(t, says(200, `{"items":[]}`))
	add := config.KeysCall{Action: "add", KeyID: "k", File: "-"}
	list := config.KeysCall{Action: "list"}
	for name, tt := range map[string]struct {
		call   config.KeysCall
		answer func(http.ResponseWriter, *http.Request)
		in     string
		says   string
	}{
		"refused": {add, says(422, `{"detail":"the call is not valid","errors":[{"location":"body.private_key_pem","message":"it is\nempty"}]}`), secretLine,
			"keys add: 422 Unprocessable Entity: the call is not valid; body.private_key_pem: it is empty"},
		"no token":        {list, says(401, `{"detail":"no"}`), "", "keys list: the node wants a token"},
		"not there":       {config.KeysCall{Action: "remove", KeyID: "k"}, says(404, `{"detail":"there is no such thing"}`), "", "keys remove: 404 Not Found: there is no such thing"},
		"away":            {list, says(503, `{"detail":"the store is away"}`), "", "503 Service Unavailable: the store is away"},
		"old node":        {config.KeysCall{Action: "reseal"}, says(405, `{"detail":"the route does not take POST"}`), "", "405"},
		"some failed":     {config.KeysCall{Action: "reseal"}, says(200, `{"total":9,"resealed":1,"failed":2,"seal":"89ab"}`), "", "2 of 9 keys can't be opened"},
		"something else":  {list, says(200, `<html>`), "", "not one of a Postrider node"},
		"a strange key":   {list, says(200, `{"items":[7]}`), "", "not one of a Postrider node"},
		"another's error": {list, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) }, "", "answered 502 Bad Gateway"},
		"a wild error":    {list, says(500, `{"detail":"a\u001b[31mb\u202ec\u009bd"}`), "", "500 Internal Server Error: a[31mbcd"},
		"a redirect": {add, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, secretLine,
			"answered 307 Temporary Redirect"},
		"too long": {add, says(201, `{}`), strings.Repeat("x", maxFile+1), "too long for a private key"},
		"no file":  {config.KeysCall{Action: "add", KeyID: "k", File: "/nowhere/key.pem"}, says(201, `{}`), "", "/nowhere/key.pem: no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.call.Token = config.NewSecret("hunter2")
			if _, err := runCall(t, startNode(t, tt.answer), tt.call, tt.in); err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error %v, want one that says %q", err, tt.says)
			}
		})
	}
	if len(elsewhere.asked) > 0 {
		t.Errorf("a redirect was followed: %v", elsewhere.asked)
	}
	gone := startNode(t, says(200, ""))
	gone.Close()
	if _, err := runCall(t, gone, list, ""); err == nil || !strings.Contains(err.Error(), "no answer from "+gone.URL+": dial tcp") {
		t.Errorf("with nobody there: %v", err)
	}
}
