package handlers

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/queue"
)

type openAPI struct {
	OpenAPI    string
	Info       struct{ Title, Version string }
	Paths      map[string]map[string]operation
	Components struct {
		Schemas         map[string]map[string]any
		SecuritySchemes map[string]map[string]any
	}
}

type operation struct {
	OperationID string
	Summary     string
	Security    []map[string][]string
	Parameters  []struct{ Name, In string }
	RequestBody struct {
		Content map[string]struct {
			Schema  map[string]any
			Example json.RawMessage
		}
	}
	Responses map[string]struct {
		Content map[string]struct {
			Schema  map[string]any
			Example any
		}
		Headers map[string]any
	}
}

func document(t *testing.T, g *rig) openAPI {
	t.Helper()
	rec := g.do("GET", "/openapi.json", "")
	wantStatus(t, rec, 200)
	return decode[openAPI](t, rec)
}

// TestDocumentIsWhole: every route served is in the document, and the reverse. The dashboard's are for browsers and no
// part of the API.
func TestDocumentIsWhole(t *testing.T) {
	g := newRig(t, withTokens)
	doc := document(t, g)
	if doc.OpenAPI != "3.1.0" || doc.Info.Version != "1.2.3" || doc.Components.SecuritySchemes["bearer"]["scheme"] != "bearer" {
		t.Errorf("got %s, version %s, schemes %v", doc.OpenAPI, doc.Info.Version, doc.Components.SecuritySchemes)
	}
	var served, described []string
	if err := chi.Walk(g.handler.(chi.Router), func(method, path string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if _, page := dashboard[path]; !page && method != http.MethodHead {
			served = append(served, method+" "+path)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for path, methods := range doc.Paths {
		for method := range methods {
			described = append(described, strings.ToUpper(method)+" "+path)
		}
	}
	sort.Strings(served)
	sort.Strings(described)
	if diff := cmp.Diff(served, described); diff != "" || len(served) != 38 {
		t.Errorf("%d routes\n%s", len(served), diff)
	}
}

func TestDocumentedOperations(t *testing.T) {
	g := newRig(t, withTokens)
	doc := document(t, g)
	for path, methods := range doc.Paths {
		for method, op := range methods {
			where := method + " " + path
			if op.OperationID == "" || op.Summary == "" {
				t.Errorf("%s: no ID or summary", where)
			}
			if (len(op.Security) == 0) != open[path] {
				t.Errorf("%s: security %v", where, op.Security)
			}
			if _, ok := op.Responses["401"]; ok == open[path] {
				t.Errorf("%s: 401 described: %t", where, ok)
			}
			for status, resp := range op.Responses {
				_, isProblem := resp.Content["application/problem+json"]
				if isProblem != (status >= "400") {
					t.Errorf("%s: %s has %v", where, status, resp.Content)
				}
			}
			for _, status := range []string{"429", "503"} {
				if op.Responses[status].Headers["Retry-After"] == nil {
					t.Errorf("%s: %s without Retry-After", where, status)
				}
			}
		}
	}
}

// TestReferences: no reference in the document leads nowhere.
func TestReferences(t *testing.T) {
	g := newRig(t)
	text, doc := g.do("GET", "/openapi.json", "").Body.String(), document(t, g)
	const prefix = `"$ref":"#/components/schemas/`
	refs := 0
	for rest := text; strings.Contains(rest, prefix); refs++ {
		_, rest, _ = strings.Cut(rest, prefix)
		if name, _, _ := strings.Cut(rest, `"`); doc.Components.Schemas[name] == nil {
			t.Errorf("no schema %s", name)
		}
	}
	if refs == 0 {
		t.Error("no references at all")
	}
	schemas := doc.Components.Schemas
	for name, schema := range schemas {
		call := strings.HasSuffix(name, "Call") || name == "Recipient" || name == "PinnedKey"
		if closed := schema["additionalProperties"] == false; closed != call {
			t.Errorf("%s: closed %t; calls must be closed, answers must be open", name, closed)
		}
	}
}

// TestExamplesAreAccepted makes the calls that the document shows.
func TestExamplesAreAccepted(t *testing.T) {
	g := newRig(t)
	doc := document(t, g)
	examples := 0
	for path, methods := range doc.Paths {
		for method, op := range methods {
			for contentType, media := range op.RequestBody.Content {
				examples++
				example := string(media.Example)
				if contentType != "application/json" {
					if err := json.Unmarshal(media.Example, &example); err != nil {
						t.Fatal(err)
					}
				}
				path := strings.ReplaceAll(path, "{host}", "one.example")
				rec := g.do(strings.ToUpper(method), path, example, "Content-Type", "", "Content-Type", contentType)
				if rec.Code < 200 || rec.Code > 299 || strings.Contains(rec.Body.String(), `"errors"`) {
					t.Errorf("%s %s: %d %s", method, path, rec.Code, rec.Body)
				}
			}
		}
	}
	if examples != 8 {
		t.Errorf("%d examples", examples)
	}
}

// TestDocumentedWords: the closed lists of words in the document are those that the program has.
func TestDocumentedWords(t *testing.T) {
	schemas := document(t, newRig(t)).Components.Schemas
	for _, tt := range []struct {
		schema, member string
		want           []string
	}{
		{"DeadLetter", "reason", texts(queue.Reasons)},
		{"DeadLetterCall", "reason", texts(queue.Reasons)},
		{"DeliveryView", "reason", texts(queue.Reasons)},
		{"Entry", "reason", texts(queue.Reasons)},
		{"Rejection", "reason", texts(rejectionReasons)},
		{"Fault", "reason", texts(rejectionReasons)},
		{"Fault", "code", texts(codes)},
		{"Attempt", "outcome", texts(outcomes)},
		{"Entry", "type", texts(feedKinds)},
		{"Entry", "state", append(texts(queue.HostStates), "done", "cancelled")},
		{"HostView", "state", texts(queue.HostStates)},
	} {
		var got []string
		for _, value := range schemas[tt.schema]["properties"].(map[string]any)[tt.member].(map[string]any)["enum"].([]any) {
			got = append(got, value.(string))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s.%s: %s", tt.schema, tt.member, diff)
		}
	}
}

// TestEveryOperationIsExplained: by a description, by a group, and by an example of its answer that is of the type that
// it answers with.
func TestEveryOperationIsExplained(t *testing.T) {
	g := newRig(t, withTokens)
	ids := map[string]bool{}
	for _, rt := range g.routes() {
		ids[rt.id] = true
		if descriptions[rt.id] == "" || rt.group() == "" {
			t.Errorf("%s: no description in describe.go, or no group", rt.id)
		}
		types := rt.stream
		for _, answer := range rt.replies {
			if answer != nil {
				types = append(types, answer)
			}
		}
		if got := reflect.TypeOf(examples[rt.id]); len(types) > 0 != (got != nil) || got != nil && !slices.Contains(types, got) {
			t.Errorf("%s: the example in examples.go is a %v, want one of %v", rt.id, got, types)
		}
	}
	for id := range descriptions {
		if !ids[id] {
			t.Errorf("there is no operation %s to describe", id)
		}
	}
	for id := range examples {
		if !ids[id] {
			t.Errorf("there is no operation %s to show an answer of", id)
		}
	}
}

// TestDocumentSuitsGenerators: what makes generated clients wrong is not in the document. A default makes them demand a
// member that may be left out, and without a security of their own open routes get that of the document.
func TestDocumentSuitsGenerators(t *testing.T) {
	text := newRig(t).do("GET", "/openapi.json", "").Body.String()
	if strings.Contains(text, `"default":`) {
		t.Error("there is a default")
	}
	if got := strings.Count(text, `"security":[]`); got != len(open) {
		t.Errorf("%d operations need no token, want %d", got, len(open))
	}
	if !strings.Contains(text, `"servers":[`) || !strings.Contains(text, `"url":"/"`) {
		t.Error("no server")
	}
}

// TestDocumentedAnswers: the schema of an answer has all members of its example.
func TestDocumentedAnswers(t *testing.T) {
	doc := document(t, newRig(t))
	checked := 0
	for path, methods := range doc.Paths {
		for method, op := range methods {
			for status, answer := range op.Responses {
				for _, media := range answer.Content {
					ref, _ := media.Schema["$ref"].(string)
					schema := doc.Components.Schemas[strings.TrimPrefix(ref, "#/components/schemas/")]
					example, _ := media.Example.(map[string]any)
					if schema["type"] != "object" || schema["properties"] == nil {
						continue
					}
					for name := range example {
						checked++
						if schema["properties"].(map[string]any)[name] == nil {
							t.Errorf("%s %s: %s: the schema lacks %s", method, path, status, name)
						}
					}
				}
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d members", checked)
	}
	for name, member := range map[string]string{"LineAccepted": "id", "LineProblem": "errors", "PinnedKey": "private_key_pem"} {
		if doc.Components.Schemas[name]["properties"].(map[string]any)[member] == nil {
			t.Errorf("%s lacks %s", name, member)
		}
	}
}

// TestDocumentedMembers: the members that the parser knows are those that the document has.
func TestDocumentedMembers(t *testing.T) {
	schemas := document(t, newRig(t)).Components.Schemas
	for name, want := range map[string][]string{"ActivityCall": callNames, "Recipient": recipientNames} {
		got, want := []string{}, append([]string{}, want...)
		for member := range schemas[name]["properties"].(map[string]any) {
			got = append(got, member)
		}
		sort.Strings(got)
		sort.Strings(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
