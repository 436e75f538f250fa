package handlers

import (
	"cmp"
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"sync"

	"github.com/danielgtaylor/huma/v2"
)

// document writes the OpenAPI 3.1 document of the routes. Of huma only the types of the document and the schemas by
// reflection are used; requests don't pass through it.
func (s *server) document(routes []route) json.RawMessage {
	schemas := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "Postrider", Version: s.Version,
			Description: "Accepts ActivityPub activities and delivers them: signed, durable, host by host. " +
				"Errors are problem documents (RFC 9457), and each of their faults has a code for programs.",
			Contact: &huma.Contact{Name: "Postrider", URL: "https://github.com/postrider/postrider"},
			License: &huma.License{Name: "Apache License 2.0", Identifier: "Apache-2.0"},
		},
		Servers: []*huma.Server{{URL: "/", Description: "the node that serves this document"}},
		Tags:    tags(),
		Components: &huma.Components{
			Schemas: schemas,
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"bearer": {Type: "http", Scheme: "bearer", Description: "needed where api-tokens are set"},
			},
		},
	}
	for _, rt := range routes {
		doc.AddOperation(rt.operation(schemas))
	}
	for name, schema := range schemas.Map() {
		// Answers may grow; calls are read strictly.
		schema.AdditionalProperties = !strict[name]
	}
	// Its parts are plain values, so that it can't fail to marshal; a test reads it.
	text, _ := json.Marshal(doc)
	return text
}

// The types that others embed, by exported names: huma leaves the members of what is embedded by another name out.
type (
	AcceptedView = accepted
	DeliveryView = deliveryView
	KeyCall      = keyCall
	ProblemView  = problem
)

// strict are the schemas of what is in calls.
var strict = map[string]bool{"ActivityCall": true, "Recipient": true, "KeyCall": true, "PinnedKey": true, "CancelCall": true, "DeadLetterCall": true, "OrderCall": true}

// serveDocument serves the document, which is the same for every call. It is written for the first: most nodes never need
// it, and it takes more memory than all else that they do at start.
func (s *server) serveDocument(routes []route) endpoint {
	text := sync.OnceValue(func() json.RawMessage { return s.document(routes) })
	return func(*http.Request, []byte) (reply, error) { return reply{Status: http.StatusOK, Body: text()}, nil }
}

func (rt *route) operation(schemas huma.Registry) *huma.Operation {
	op := &huma.Operation{
		Method: rt.method, Path: rt.path, OperationID: rt.id, Summary: rt.summary, Description: descriptions[rt.id],
		Tags: []string{rt.group()}, Security: []map[string][]string{}, // none, unless set below
		Parameters: rt.parameters(), RequestBody: rt.requestBody(schemas), Responses: rt.responses(schemas),
	}
	if !open[rt.path] {
		op.Security = []map[string][]string{{"bearer": {}}}
	}
	return op
}

// pathDocs say what the parameters in paths are.
var pathDocs = map[string]string{
	"id":      "the ID that the activity got when it was accepted",
	"host":    "the name of the host, with :port unless that is the default of its scheme; an IPv6 address in brackets",
	"profile": "profile (of the processors), trace, or one of Go's: allocs, block, goroutine, heap, mutex, threadcreate",
	"problem": "the last part of the type of a problem",
}

var pathParam = regexp.MustCompile(`\{(\w+)\}`)

func (rt *route) parameters() []*huma.Param {
	var list []*huma.Param
	for _, m := range pathParam.FindAllStringSubmatch(rt.path, -1) {
		schema := &huma.Schema{Type: huma.TypeString}
		list = append(list, &huma.Param{Name: m[1], In: "path", Required: true, Schema: schema, Description: pathDocs[m[1]]})
	}
	for _, p := range rt.params {
		list = append(list, &huma.Param{
			Name: p.name, In: p.in, Description: p.doc, Required: p.required, Schema: p.schema(),
		})
	}
	return list
}

func (p *param) schema() *huma.Schema {
	if p.number {
		least, most := float64(1), float64(maxLimit)
		return &huma.Schema{Type: huma.TypeInteger, Minimum: &least, Maximum: &most}
	}
	s := &huma.Schema{Type: huma.TypeString}
	if p.enum != nil {
		s = enumSchema(p.enum)
	}
	if p.list {
		return &huma.Schema{Type: huma.TypeArray, Items: s}
	}
	return s
}

func (rt *route) requestBody(schemas huma.Registry) *huma.RequestBody {
	if rt.body == nil {
		return nil
	}
	contentType := "application/json"
	example := json.RawMessage(rt.example)
	if rt.media != "" { // the document holds it as a string
		contentType = rt.media
		example, _ = json.Marshal(rt.example) // a string can't fail
	}
	return &huma.RequestBody{Required: !rt.optional, Content: map[string]*huma.MediaType{
		contentType: {Schema: schemas.Schema(rt.body, true, ""), Example: example},
	}}
}

// responses describes the answers: those of the route, and the problems that it and every route may have.
func (rt *route) responses(schemas huma.Registry) map[string]*huma.Response {
	all := map[string]*huma.Response{}
	for status, t := range rt.replies {
		r := &huma.Response{Description: http.StatusText(status)}
		contentType := cmp.Or(bytesTypes[t], "application/json")
		if t == reflect.TypeFor[plainText]() {
			contentType = "text/plain"
		}
		if t != nil {
			r.Content = map[string]*huma.MediaType{contentType: {Schema: schemas.Schema(t, true, ""), Example: examples[rt.id]}}
		}
		all[strconv.Itoa(status)] = r
	}
	if rt.stream != nil {
		all["200"] = rt.streamResponse(schemas)
	}
	statuses := slices.Concat(rt.faults, []int{400, 403, 429, 500, 503})
	if rt.body != nil {
		statuses = append(statuses, 408, 413, 415, 422)
	}
	if !open[rt.path] {
		statuses = append(statuses, 401)
	}
	schema := schemas.Schema(reflect.TypeFor[problem](), true, "")
	for _, status := range statuses {
		all[strconv.Itoa(status)] = problemResponse(status, schema)
	}
	return all
}

// streamResponse describes server-sent events, or lines, by the data that they may have.
func (rt *route) streamResponse(schemas huma.Registry) *huma.Response {
	var forms []*huma.Schema
	for _, t := range rt.stream {
		forms = append(forms, schemas.Schema(t, true, ""))
	}
	return &huma.Response{
		Description: "One after the other, each of one of these forms",
		Content:     map[string]*huma.MediaType{rt.media: {Schema: &huma.Schema{AnyOf: forms}, Example: examples[rt.id]}},
	}
}

var problemFaults = map[int][]fault{
	400: {flaw{codeUnknownParameter, "is unknown"}.at("query.hots")},
	403: {flaw{codeMissingScope, "does not have the scope operate"}.at("header.Authorization")},
	422: {isMissing.at("body.activity.id")},
}

var problemDetails = map[int]string{
	400: "unknown in the query: hots", 401: "a bearer token is needed",
	403: "the token does not have the scope operate", 404: "there is no such thing, or not any more", 409: "what the call asks for contradicts how things are",
	408: "the body took too long", 413: "the body is larger than 64 MiB", 415: "Content-Type must be application/json",
	422: "the call is not valid", 429: "too many calls at once", 500: "a fault of our own; it was logged", 503: "the store is away",
}

func problemResponse(status int, schema *huma.Schema) *huma.Response {
	example := &problem{Status: status, Detail: problemDetails[status], Errors: problemFaults[status]}
	example.name()
	r := &huma.Response{
		Description: http.StatusText(status),
		Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: schema, Example: example}},
	}
	text := &huma.Schema{Type: huma.TypeString}
	switch status {
	case http.StatusUnauthorized:
		r.Headers = map[string]*huma.Param{"WWW-Authenticate": {Schema: text}}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		r.Headers = map[string]*huma.Param{"Retry-After": {Schema: text, Description: "in seconds"}}
	}
	return r
}
