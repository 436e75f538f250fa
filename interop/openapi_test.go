package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/handlers"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

// toolTime is how long a tool may take: a few seconds, or much longer while all tests run on a small machine.
const toolTime = 3 * time.Minute

// document returns the OpenAPI document as a node serves it. It needs no store.
func document(t *testing.T) []byte {
	t.Helper()
	sealer, err := signer.NewSealer(make([]byte, signer.MasterKeySize))
	if err != nil {
		t.Fatal(err)
	}
	api := handlers.New(handlers.Options{Queue: struct{ queue.Queue }{}, Sealer: sealer, Scrape: http.NotFoundHandler(), Version: "1.2.3"})
	answer := httptest.NewRecorder()
	api.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "http://localhost/openapi.json", nil))
	if answer.Code != http.StatusOK {
		t.Fatalf("answered %d %s", answer.Code, answer.Body)
	}
	return answer.Body.Bytes()
}

// finding is a fault that a linter finds.
type finding struct{ Linter, Rule, At, Message string }

// lint returns the linters' findings in each document.
func lint(t *testing.T, documents ...string) (found [][]finding) {
	t.Helper()
	input, err := json.Marshal(documents)
	if err == nil {
		err = json.Unmarshal(openAPITool(t, "lint", input), &found)
	}
	if err != nil || len(found) != len(documents) {
		t.Fatalf("%d answers for %d documents: %v", len(found), len(documents), err)
	}
	return found
}

func openAPITool(t *testing.T, action string, input []byte) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), toolTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "openapi.mjs", action)
	cmd.Dir = "testdata"
	cmd.Stdin = bytes.NewReader(input)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openapi.mjs %s: %v", action, err)
	}
	return out
}

// TestOpenAPIIsClean: Redocly and Spectral find nothing in the document.
func TestOpenAPIIsClean(t *testing.T) {
	harness.RequireNode(t)
	harness.InstallPackages(t, "testdata")
	doc := document(t)
	// They do find something: an example that is not of its type, and an operation without a description.
	bad := bytes.Replace(doc, []byte(`"example":{"status":"ok"}`), []byte(`"example":{"status":7}`), 1)
	bad = regexp.MustCompile(`"description":"It does not depend on the store.",|"summary":"Whether the node lives",`).ReplaceAll(bad, nil)
	found := lint(t, string(doc), string(bad))
	for _, f := range found[0] {
		t.Errorf("%+v", f)
	}
	by := map[string]int{}
	for _, f := range found[1] {
		by[f.Linter]++
	}
	if by["redocly"] < 2 || by["spectral"] < 2 {
		t.Errorf("of a bad document found %v", by)
	}
}

var readmeCall = regexp.MustCompile(`(?s)/v1/activities .*?<<'JSON'[^\n]*\n(\{.*?\n\})\nJSON\n`)

// TestGeneratedClient: a client that is generated from the document compiles the README's call, and no call that is wrong.
func TestGeneratedClient(t *testing.T) {
	harness.RequireNode(t)
	harness.InstallPackages(t, "testdata")
	dir := t.TempDir()
	modules, err := filepath.Abs("testdata/node_modules")
	if err == nil {
		err = os.Symlink(modules, filepath.Join(dir, "node_modules"))
	}
	if err != nil {
		t.Fatal(err)
	}
	call := readmeCall.FindStringSubmatch(read(t, "../README.md"))
	if call == nil {
		t.Fatal("the README has no call of POST /v1/activities")
	}
	for name, text := range map[string]string{
		"api.d.ts": string(openAPITool(t, "types", document(t))),
		"readme.ts": "import type { components } from './api.js';\n" +
			"export const readmeCall: components['schemas']['ActivityCall'] = " + call[1] + ";\n",
		"client.ts": read(t, "testdata/client.ts"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if said := compile(t, dir); said != "" {
		t.Errorf("tsc: %s", said)
	}
}

// compile checks the types of a program and returns what is wrong with them.
func compile(t *testing.T, dir string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), toolTime)
	defer cancel()
	tsc := filepath.Join("node_modules", "typescript", "bin", "tsc")
	args := strings.Fields("--noEmit --strict --skipLibCheck --target es2022 --module esnext --moduleResolution bundler --lib es2022,dom")
	cmd := exec.CommandContext(ctx, "node", append(append([]string{tsc}, args...), "client.ts")...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 {
		return err.Error()
	}
	return string(out)
}
