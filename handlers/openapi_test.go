package handlers

import (
	"encoding/json"
	"net/http"
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
		Content map[string]struct{ Schema map[string]any }
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
	if diff := cmp.Diff(served, described); diff != "" || len(served) != 26 {
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
	if schemas["ActivityCall"]["additionalProperties"] != false || schemas["HostView"]["additionalProperties"] != true {
		t.Error("calls must be closed, answers must be open")
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
				rec := g.do(strings.ToUpper(method), path, string(media.Example), "Content-Type", "", "Content-Type", contentType)
				if rec.Code < 200 || rec.Code > 299 {
					t.Errorf("%s %s: %d %s", method, path, rec.Code, rec.Body)
				}
			}
		}
	}
	if examples != 4 {
		t.Errorf("%d examples", examples)
	}
}

// TestDocumentedReasons: the reasons and states that the store knows are those that the document tells.
func TestDocumentedReasons(t *testing.T) {
	schemas := document(t, newRig(t)).Components.Schemas
	for _, tt := range []struct {
		schema, member string
		want           []string
	}{
		{"DeadLetter", "reason", texts(queue.Reasons)},
		{"DeadLetterCall", "reason", texts(queue.Reasons)},
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

// TestDocumentedMembers: the members that the parser knows are those that the document tells.
func TestDocumentedMembers(t *testing.T) {
	schemas := document(t, newRig(t)).Components.Schemas
	for name, want := range map[string][]string{"ActivityCall": callNames, "Recipient": recipientNames, "KeyCall": keyNames, "DeadLetterCall": letterNames} {
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
