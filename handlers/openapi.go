package handlers

import (
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
			Description: "Accepts ActivityPub activities and delivers them: signed, durable, host by host.",
		},
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

// strict are the schemas of what is in calls.
var strict = map[string]bool{"ActivityCall": true, "Recipient": true, "KeyCall": true, "DeadLetterCall": true}

// serveDocument serves the document, which is the same for every call. It is written for the first: most nodes never need
// it, and it takes more memory than all else that they do at start.
func (s *server) serveDocument(routes []route) endpoint {
	text := sync.OnceValue(func() json.RawMessage { return s.document(routes) })
	return func(*http.Request, []byte) (reply, error) { return reply{Status: http.StatusOK, Body: text()}, nil }
}

func (rt *route) operation(schemas huma.Registry) *huma.Operation {
	op := &huma.Operation{
		Method: rt.method, Path: rt.path, OperationID: rt.id, Summary: rt.summary,
		Parameters: rt.parameters(), RequestBody: rt.requestBody(schemas), Responses: rt.responses(schemas),
	}
	if !open[rt.path] {
		op.Security = []map[string][]string{{"bearer": {}}}
	}
	return op
}

var pathParam = regexp.MustCompile(`\{(\w+)\}`)

func (rt *route) parameters() []*huma.Param {
	var list []*huma.Param
	for _, m := range pathParam.FindAllStringSubmatch(rt.path, -1) {
		schema := &huma.Schema{Type: huma.TypeString}
		list = append(list, &huma.Param{Name: m[1], In: "path", Required: true, Schema: schema})
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
		return &huma.Schema{Type: huma.TypeInteger, Minimum: &least, Maximum: &most, Default: defaultLimit}
	}
	s := &huma.Schema{Type: huma.TypeString}
	for _, value := range p.enum {
		s.Enum = append(s.Enum, value)
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
	return &huma.RequestBody{Required: !rt.optional, Content: map[string]*huma.MediaType{
		"application/json": {Schema: schemas.Schema(rt.body, true, ""), Example: json.RawMessage(rt.example)},
	}}
}

// responses describes the answers: those of the route, and the problems that it and every route may have.
func (rt *route) responses(schemas huma.Registry) map[string]*huma.Response {
	all := map[string]*huma.Response{}
	for status, t := range rt.replies {
		r := &huma.Response{Description: http.StatusText(status)}
		if t != nil {
			r.Content = map[string]*huma.MediaType{"application/json": {Schema: schemas.Schema(t, true, "")}}
		}
		all[strconv.Itoa(status)] = r
	}
	if rt.stream != nil {
		all["200"] = streamResponse(rt.stream, schemas)
	}
	statuses := slices.Concat(rt.faults, []int{429, 500, 503})
	if rt.body != nil {
		statuses = append(statuses, 400, 408, 413, 415, 422)
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

// streamResponse describes server-sent events by the data that they may have.
func streamResponse(data []reflect.Type, schemas huma.Registry) *huma.Response {
	var forms []*huma.Schema
	for _, t := range data {
		forms = append(forms, schemas.Schema(t, true, ""))
	}
	return &huma.Response{
		Description: "Events, each of a type and with data of one of these forms",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{AnyOf: forms}}},
	}
}

func problemResponse(status int, schema *huma.Schema) *huma.Response {
	r := &huma.Response{
		Description: http.StatusText(status),
		Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: schema}},
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
