package handlers

import (
	"net/http"
	"reflect"
	"time"

	"github.com/postrider/postrider/queue"
)

// route is one row of the API: the router and the OpenAPI document are both made of these.
type route struct {
	method, path string
	id, summary  string // of the operation
	serve        endpoint
	raw          http.Handler // serves instead, if set

	timeout  time.Duration // of its work, storeTimeout if 0
	limit    int64         // of the body; 0 if there is none
	optional bool          // the body may be left out
	body     reflect.Type  // what the body is read into
	example  string        // of the body
	params   []param       // in the query and in headers; those in the path are in the path
	replies  map[int]reflect.Type
	stream   []reflect.Type // what it sends without end instead, as server-sent events
	faults   []int          // the errors it has besides those that every route has
}

// param is a parameter of a route.
type param struct {
	name, in, doc string
	required      bool
	enum          []string
	number        bool
	list          bool // of values, repeated or separated by commas
}

var (
	paging = []param{
		{name: "limit", in: "query", doc: "1 to 500, 50 by default", number: true},
		{name: "cursor", in: "query", doc: "next_cursor of the page before"},
	}
	idempotencyKey = param{name: "Idempotency-Key", in: "header", doc: "1 to 255 visible ASCII characters; by default the body itself makes the call harmless to repeat for 24 h"}
)

const (
	keyExample = `{
  "key_id": "https://app.example/users/alice#main-key",
  "private_key_pem": "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n-----END PRIVATE KEY-----\n"
}`
	activityExample = `{
  "activity": {
    "@context": "https://www.w3.org/ns/activitystreams",
    "id": "https://app.example/a/1",
    "type": "Create",
    "actor": "https://app.example/users/alice",
    "object": {"id": "https://app.example/notes/1", "type": "Note", "content": "Hello"}
  },
  "key_id": "https://app.example/users/alice#main-key",
  "inboxes": ["https://one.example/inbox", "https://two.example/users/bob/inbox"],
  "recipients": [{
    "id": "https://three.example/users/eve",
    "inbox": "https://three.example/users/eve/inbox",
    "shared_inbox": "https://three.example/inbox",
    "headers": {"Collection-Synchronization": "collectionId=\"https://app.example/users/alice/followers\""}
  }],
  "priority": "normal",
  "ordering_key": "https://app.example/notes/1",
  "expires_in": "72h"
}`
	letterExample = `{"host": "one.example", "reason": "exhausted", "since": "2026-01-02T15:04:05Z", "dry_run": true}`
)

// routes is the table of the API.
func (s *server) routes() []route {
	list := append(s.keyRoutes(), s.activityRoutes()...)
	list = append(list, s.hostRoutes()...)
	list = append(list, s.letterRoutes()...)
	list = append(list, s.watchRoutes()...)
	if s.Metrics != nil {
		list = append(list, route{
			method: "GET", path: "/metrics", id: "metrics", summary: "Metrics for Prometheus", raw: s.Metrics,
			replies: map[int]reflect.Type{200: nil},
		})
	}
	doc := route{
		method: "GET", path: "/openapi.json", id: "openapi", summary: "This document",
		replies: map[int]reflect.Type{200: reflect.TypeFor[map[string]any]()},
	}
	list = append(list, doc)
	list[len(list)-1].serve = s.serveDocument(list)
	return list
}

func (s *server) keyRoutes() []route {
	key, list := reflect.TypeFor[keyView](), reflect.TypeFor[page[keyView]]()
	return []route{
		{
			method: "PUT", path: "/v1/keys", id: "put-key", summary: "Store or replace a private key", serve: s.putKey,
			limit: maxKeyCall, body: reflect.TypeFor[keyCall](), example: keyExample,
			replies: map[int]reflect.Type{200: key, 201: key},
		},
		{
			method: "GET", path: "/v1/keys", id: "list-keys", summary: "List the public halves of the keys, by ID",
			serve: s.listKeys, params: paging, replies: map[int]reflect.Type{200: list}, faults: []int{422},
		},
		{
			method: "DELETE", path: "/v1/keys", id: "delete-key", summary: "Remove a key; what it would sign waits for it",
			serve: s.deleteKey, params: []param{{name: "key_id", in: "query", doc: "the key to remove", required: true}},
			replies: map[int]reflect.Type{204: nil}, faults: []int{404, 422},
		},
		{
			method: "POST", path: "/v1/keys/reseal", id: "reseal-keys",
			summary: "Encrypt all keys anew with the first master key; may be repeated", serve: s.resealKeys,
			replies: map[int]reflect.Type{200: reflect.TypeFor[resealView]()},
		},
	}
}

func (s *server) activityRoutes() []route {
	view, list := reflect.TypeFor[activityView](), reflect.TypeFor[page[deliveryView]]()
	state := param{name: "state", in: "query", doc: "pending or dead only", enum: texts(deliveryStates)}
	return []route{
		{
			method: "POST", path: "/v1/activities", id: "post-activity", summary: "Accept an activity for many inboxes",
			serve: s.postActivity, limit: maxCall, body: reflect.TypeFor[activityCall](), example: activityExample,
			params: []param{idempotencyKey}, replies: map[int]reflect.Type{202: reflect.TypeFor[accepted]()},
		},
		{
			method: "GET", path: "/v1/activities/{id}", id: "get-activity", summary: "What became of an activity",
			serve: s.getActivity, replies: map[int]reflect.Type{200: view}, faults: []int{404},
		},
		{
			method: "DELETE", path: "/v1/activities/{id}", id: "cancel-activity", summary: "Cancel what is still pending",
			serve: s.cancelActivity, replies: map[int]reflect.Type{200: view}, faults: []int{404},
		},
		{
			method: "GET", path: "/v1/activities/{id}/deliveries", id: "list-deliveries",
			summary: "List an activity's deliveries that are pending or dead", serve: s.listDeliveries,
			params: append([]param{state}, paging...), replies: map[int]reflect.Type{200: list}, faults: []int{404, 422},
		},
	}
}

func (s *server) hostRoutes() []route {
	list, host := reflect.TypeFor[page[hostView]](), reflect.TypeFor[hostView]()
	routes := []route{
		{
			method: "GET", path: "/v1/hosts", id: "list-hosts", summary: "List the hosts known, by name", serve: s.listHosts,
			params: append([]param{
				{name: "state", in: "query", doc: "hosts in this state only", enum: texts(queue.HostStates)},
				{name: "q", in: "query", doc: "part of the name"},
			}, paging...),
			replies: map[int]reflect.Type{200: list}, faults: []int{422},
		},
		{
			method: "GET", path: "/v1/hosts/{host}", id: "get-host", summary: "How a host is", serve: s.getHost,
			replies: map[int]reflect.Type{200: host}, faults: []int{422},
		},
	}
	for _, action := range queue.HostActions {
		routes = append(routes, route{
			method: "POST", path: "/v1/hosts/{host}/" + string(action), id: string(action) + "-host",
			summary: actionSummary[action], serve: s.actOn(action), timeout: bulkTimeout,
			replies: map[int]reflect.Type{200: host}, faults: []int{422},
		})
	}
	return routes
}

// actionSummary tells what the actions do. Each may come before anything is known of the host, and may be repeated.
var actionSummary = map[queue.HostAction]string{
	queue.Pause:   "Make no attempts to a host; what comes for it is accepted and waits",
	queue.Resume:  "End a pause",
	queue.Block:   "Refuse what comes for a host, and make dead letters of what is pending",
	queue.Unblock: "End a block; what is dead stays so",
	queue.Reset:   "Close a host's breaker and forget its failures, so that it is tried as if it had never failed",
	queue.Probe:   "End a host's wait, so that it is tried now",
	queue.Seen:    "Tell that a host was heard from: its next probe comes sooner, nothing else changes",
}

func (s *server) letterRoutes() []route {
	filter := []param{
		{name: "host", in: "query", doc: "of this host only"},
		{name: "reason", in: "query", doc: "with this reason only", enum: texts(queue.Reasons)},
		{name: "since", in: "query", doc: "died since then, RFC 3339"},
	}
	which := append([]param{
		{name: "ids", in: "query", doc: "these only, instead of a filter; repeated or separated by commas", list: true},
		{name: "dry_run", in: "query", doc: "only count them", enum: []string{"true", "false"}},
	}, filter...)
	call := reflect.TypeFor[deadLetterCall]()
	return []route{
		{
			method: "GET", path: "/v1/dead-letters", id: "list-dead-letters", summary: "List dead letters, newest first",
			serve: s.listDeadLetters, params: append(filter, paging...),
			replies: map[int]reflect.Type{200: reflect.TypeFor[page[deadLetter]]()}, faults: []int{422},
		},
		{
			method: "POST", path: "/v1/dead-letters/retry", id: "retry-dead-letters",
			summary: "Make dead letters pending again: all, or those that query and body leave; what the body says counts",
			serve:   s.retryDeadLetters, timeout: bulkTimeout, limit: maxLetterCall, optional: true, body: call,
			example: letterExample, params: which, replies: map[int]reflect.Type{200: reflect.TypeFor[retried]()},
		},
		{
			method: "DELETE", path: "/v1/dead-letters", id: "delete-dead-letters",
			summary: "Drop dead letters: all, or those that query and body leave; what the body says counts",
			serve:   s.deleteDeadLetters, timeout: bulkTimeout, limit: maxLetterCall, optional: true, body: call,
			example: letterExample, params: which, replies: map[int]reflect.Type{200: reflect.TypeFor[deleted]()},
		},
	}
}

func (s *server) watchRoutes() []route {
	health := reflect.TypeFor[healthView]()
	return []route{
		{
			method: "GET", path: "/v1/stats", id: "stats", summary: "Totals", serve: s.stats,
			replies: map[int]reflect.Type{200: reflect.TypeFor[statsView]()},
		},
		{
			method: "GET", path: "/v1/events", id: "events", raw: http.HandlerFunc(s.events),
			summary: "What happens from now on, as server-sent events: delivered, dead, host_state, and every 5 s stats",
			params: []param{
				{name: "type", in: "query", doc: "events of these types only; repeated or separated by commas", enum: texts(eventKinds), list: true},
				{name: "host", in: "query", doc: "events of these hosts only, and stats only if its type is asked for; repeated or separated by commas", list: true},
			},
			stream: []reflect.Type{reflect.TypeFor[deliveryEvent](), reflect.TypeFor[hostEvent](), reflect.TypeFor[statsView]()},
			faults: []int{422},
		},
		{
			method: "GET", path: "/healthz", id: "healthz", summary: "Whether the node lives", serve: s.healthz,
			replies: map[int]reflect.Type{200: health},
		},
		{
			method: "GET", path: "/readyz", id: "readyz", summary: "Whether the node can work; if not, the reason",
			serve: s.readyz, replies: map[int]reflect.Type{200: health},
		},
	}
}
