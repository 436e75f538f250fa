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
	traced   bool          // each request has a span, if the server makes spans
	body     reflect.Type  // what the body is read into
	example  string        // of the body
	params   []param       // in the query and in headers; those in the path are in the path
	replies  map[int]reflect.Type
	media    string         // of the body and of the stream, if that is not JSON
	stream   []reflect.Type // the forms of what it sends instead, one after the other
	faults   []int          // the errors it has besides those that every route has
}

// ok is the replies of a route that answers with a T.
func ok[T any]() map[int]reflect.Type {
	return map[int]reflect.Type{http.StatusOK: reflect.TypeFor[T]()}
}

// plainText is an answer of text/plain.
type plainText string

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
	idempotencyHeader = param{name: "Idempotency-Key", in: "header", doc: "1 to 255 visible ASCII characters: the call may be repeated with it for 24 h, and gets the first answer again"}
	batchKeyHeader    = param{name: "Idempotency-Key", in: "header", doc: "as in a single call, for each line by its number, if it has no idempotency_key: those that were accepted get their first answer again, the others are done"}
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
	batchExample = `{"activity": {"id": "https://app.example/a/2", "type": "Like", "actor": "https://app.example/users/alice", "object": "https://one.example/notes/1"}, "key_id": "https://app.example/users/alice#main-key", "inboxes": ["https://one.example/inbox"]}
{"activity": {"id": "https://app.example/a/3", "type": "Like", "actor": "https://app.example/users/alice", "object": "https://two.example/notes/1"}, "key_id": "https://app.example/users/alice#main-key", "inboxes": ["https://two.example/inbox"]}
`
	cancelExample = `{"key_id": "https://app.example/users/alice#main-key", "dry_run": true}`
	letterExample = `{"host": "one.example", "reason": "exhausted", "since": "2026-01-02T15:04:05Z", "dry_run": true}`
)

// routes is the table of the API.
func (s *server) routes() []route {
	list := append(s.keyRoutes(), s.activityRoutes()...)
	list = append(list, s.hostRoutes()...)
	list = append(list, s.letterRoutes()...)
	list = append(list, s.watchRoutes()...)
	if s.Scrape != nil {
		list = append(list, route{
			method: "GET", path: "/metrics", id: "metrics", summary: "Metrics for Prometheus", raw: s.Scrape,
			replies: ok[plainText](),
		})
	}
	doc := route{
		method: "GET", path: "/openapi.json", id: "openapi", summary: "This document",
		replies: ok[map[string]any](),
	}
	page := route{
		method: "GET", path: problemRoute, id: "problem", summary: "The meaning of a type of problem, as text",
		raw: http.HandlerFunc(s.problemPage), replies: ok[plainText](), faults: []int{404},
	}
	list = append(list, page, doc)
	list[len(list)-1].serve = s.serveDocument(list)
	return list
}

func (s *server) keyRoutes() []route {
	key := reflect.TypeFor[keyView]()
	return []route{
		{
			method: "PUT", path: "/v1/keys", id: "put-key", summary: "Store or replace a private key", serve: s.putKey,
			limit: maxKeyCall, body: reflect.TypeFor[keyCall](), example: keyExample,
			replies: map[int]reflect.Type{200: key, 201: key},
		},
		{
			method: "GET", path: "/v1/keys", id: "list-keys", summary: "List the public halves of the keys, by ID",
			serve: list(keyFilter, s.Queue.Keys, keyViewOf), replies: ok[page[keyView]](), faults: []int{422},
			params: append([]param{{name: "key_id", in: "query", doc: "only the key with this ID"}}, paging...),
		},
		{
			method: "DELETE", path: "/v1/keys", id: "delete-key", summary: "Remove a key, at once or when idle",
			serve: s.deleteKey, params: []param{
				{name: "key_id", in: "query", doc: "the key to remove; deliveries that need it wait for it", required: true},
				{name: "when", in: "query", doc: "idle: once no pending delivery needs it, so that an account's last activities still go out", enum: []string{"idle"}},
			},
			replies: map[int]reflect.Type{202: nil, 204: nil}, faults: []int{404, 422},
		},
		{
			method: "POST", path: "/v1/keys/reseal", id: "reseal-keys",
			summary: "Encrypt all keys again with the first master key; may be repeated", serve: s.resealKeys,
			replies: ok[resealView](),
		},
	}
}

func (s *server) activityRoutes() []route {
	state := param{name: "state", in: "query", doc: "pending or dead only", enum: texts(deliveryStates)}
	return []route{
		{
			method: "POST", path: "/v1/activities", id: "post-activity", traced: true, summary: "Accept an activity for many inboxes",
			serve: s.postActivity, limit: maxCall, body: reflect.TypeFor[activityCall](), example: activityExample,
			params: []param{idempotencyHeader}, replies: map[int]reflect.Type{202: reflect.TypeFor[accepted]()},
		},
		{
			method: "POST", path: "/v1/activities/batch", id: "post-batch", traced: true, summary: "Accept up to 1,000 activities, a call a line",
			raw: http.HandlerFunc(s.postBatch), params: []param{batchKeyHeader},
			media: lineTypes[0], body: reflect.TypeFor[string](), example: batchExample,
			stream: []reflect.Type{reflect.TypeFor[lineAccepted](), reflect.TypeFor[lineProblem]()},
		},
		{
			method: "GET", path: "/v1/activities", id: "list-activities", summary: "List activities, newest first",
			params: append([]param{
				{name: "activity_id", in: "query", doc: "those with this id of their own"},
				{name: "actor", in: "query", doc: "those of this actor"},
				{name: "key_id", in: "query", doc: "those that this key signs"},
				{name: "type", in: "query", doc: "those of this type, such as Create"},
				{name: "state", in: "query", doc: "those in this state", enum: texts(activityStates)},
				{name: "since", in: "query", doc: "those accepted since then, RFC 3339"},
			}, paging...),
			serve: list(activityFilter, s.Queue.Activities, activityViewOf), replies: ok[page[activityView]](), faults: []int{422},
		},
		{
			method: "POST", path: "/v1/activities/cancel", id: "cancel-activities", timeout: bulkTimeout,
			summary: "Cancel the pending deliveries of many activities: of those that a key signs, or of a list", serve: s.cancelActivities,
			limit: maxCancelCall, body: reflect.TypeFor[cancelCall](), example: cancelExample,
			replies: ok[cancelledMany](),
		},
		{
			method: "GET", path: "/v1/activities/{id}/body", id: "get-body", summary: "Get the bytes of an activity, while they are kept",
			serve: s.getBody, replies: ok[sentBytes](), faults: []int{404},
		},
		{
			method: "GET", path: "/v1/deliveries/{id}", id: "get-delivery", summary: "Get a delivery that is pending or dead, with its last attempts",
			serve: s.getDelivery, replies: ok[oneDelivery](), faults: []int{404},
		},
		{
			method: "GET", path: "/v1/activities/{id}", id: "get-activity", summary: "Get an activity's state and counts",
			serve: activity(s.Queue.Activity), replies: ok[activityView](), faults: []int{404},
		},
		{
			method: "DELETE", path: "/v1/activities/{id}", id: "cancel-activity", summary: "Cancel the pending deliveries of an activity",
			serve: activity(s.cancelActivity), replies: ok[activityView](), faults: []int{404},
		},
		{
			method: "GET", path: "/v1/activities/{id}/deliveries", id: "list-deliveries",
			summary: "List an activity's deliveries that are pending or dead", serve: s.listDeliveries,
			params: append([]param{state}, paging...), replies: ok[page[deliveryView]](), faults: []int{404, 422},
		},
	}
}

func (s *server) hostRoutes() []route {
	routes := []route{
		{
			method: "GET", path: "/v1/hosts", id: "list-hosts", summary: "List the hosts known",
			params: append([]param{
				{name: "state", in: "query", doc: "hosts in this state only", enum: texts(queue.HostStates)},
				{name: "q", in: "query", doc: "part of the name"},
				{name: "changed_since", in: "query", doc: "hosts whose state changed since then, RFC 3339"},
				{name: "sort", in: "query", doc: "name (by default), pending (most first) or oldest (oldest delivery first); the last two leave out hosts with nothing pending", enum: texts(hostSorts)},
			}, paging...),
			serve: list(hostFilter, s.Queue.Hosts, hostViewOf), replies: ok[page[hostView]](), faults: []int{422},
		},
		{
			method: "GET", path: "/v1/hosts/{host}", id: "get-host", summary: "Get a host's state", serve: s.getHost,
			replies: ok[hostView](), faults: []int{422},
		},
		{
			method: "GET", path: "/v1/hosts/{host}/deliveries", id: "list-host-deliveries",
			summary: "List what is pending for a host, oldest first", serve: s.hostDeliveries, params: paging,
			replies: ok[page[oneDelivery]](), faults: []int{422},
		},
		{
			method: "POST", path: "/v1/hosts/reset", id: "reset-hosts", timeout: bulkTimeout, serve: s.resetHosts,
			summary: "Reset all hosts in a state, such as after an outage of your own network; may be repeated",
			params:  []param{{name: "state", in: "query", doc: "the state", required: true, enum: texts(queue.HostStates)}},
			replies: ok[hostsReset](), faults: []int{422},
		},
	}
	for _, action := range queue.HostActions {
		rt := route{
			method: "POST", path: "/v1/hosts/{host}/" + string(action), id: string(action) + "-host",
			summary: actionSummary[action], serve: s.actOn(action), timeout: bulkTimeout,
			replies: ok[hostView](), faults: []int{422},
		}
		switch action {
		case queue.Pause, queue.Block:
			rt.limit, rt.optional = maxOrderCall, true
			rt.body, rt.example = reflect.TypeFor[orderCall](), orderExample
		case queue.Resume, queue.Unblock:
			rt.faults = append(rt.faults, http.StatusConflict)
		}
		routes = append(routes, rt)
	}
	return routes
}

// actionSummary is what each action does. The host need not be known, and an action may be repeated.
var actionSummary = map[queue.HostAction]string{
	queue.Pause:   "Make no attempts to a host; new deliveries are accepted and wait",
	queue.Resume:  "End a pause",
	queue.Block:   "Refuse new deliveries to a host, and make dead letters of the pending ones",
	queue.Unblock: "End a block; dead letters stay",
	queue.Reset:   "Close a host's breaker and forget its failures, so that it is tried as if it had never failed",
	queue.Probe:   "End a host's wait, so that it is tried now",
	queue.Seen:    "Report a sign of life from a host: its next probe comes sooner, nothing else changes",
}

func (s *server) letterRoutes() []route {
	filter := []param{
		{name: "host", in: "query", doc: "of this host only"},
		{name: "reason", in: "query", doc: "with this reason only", enum: texts(queue.Reasons)},
		{name: "since", in: "query", doc: "died since then, RFC 3339"},
		{name: "inbox", in: "query", doc: "to this inbox only"},
		{name: "activity_id", in: "query", doc: "of this activity only, by its own id"},
	}
	which := append([]param{
		{name: "ids", in: "query", doc: "these only, instead of a filter; repeated or separated by commas", list: true},
		{name: "dry_run", in: "query", doc: "only count them", enum: []string{"true", "false"}},
	}, filter...)
	call := reflect.TypeFor[deadLetterCall]()
	return []route{
		{
			method: "GET", path: "/v1/dead-letters", id: "list-dead-letters", summary: "List dead letters, newest first",
			serve: list(deadLetterFilter, s.Queue.DeadLetters, deadLetterOf), params: append(filter, paging...),
			replies: ok[page[deadLetter]](), faults: []int{422},
		},
		{
			method: "POST", path: "/v1/dead-letters/retry", id: "retry-dead-letters",
			summary: "Make dead letters pending again: all, or those that match the filter in the query or the body; the body wins",
			serve:   s.retryDeadLetters, timeout: bulkTimeout, limit: maxLetterCall, optional: true, body: call,
			example: letterExample, params: which, replies: ok[retried](),
		},
		{
			method: "DELETE", path: "/v1/dead-letters", id: "delete-dead-letters",
			summary: "Delete dead letters: all, or those that match the filter in the query or the body; the body wins",
			serve:   s.deleteDeadLetters, timeout: bulkTimeout, limit: maxLetterCall, optional: true, body: call,
			example: letterExample, params: which, replies: ok[deleted](),
		},
	}
}

func (s *server) watchRoutes() []route {
	return []route{
		{
			method: "GET", path: "/v1/stats", id: "stats", summary: "Totals", serve: s.stats,
			replies: ok[statsView](),
		},
		{
			method: "GET", path: "/v1/nodes", id: "list-nodes", summary: "List the nodes that share the store", serve: s.nodes,
			replies: ok[nodesView](),
		},
		{
			method: "GET", path: "/v1/stats/history", id: "stats-history", summary: "What happened in the last hour or day, for charts", serve: s.statsHistory,
			params:  []param{{name: "minutes", in: "query", doc: "how far back, 1 to 1500, 60 by default; for more than 180 a step is 10 minutes", number: true}},
			replies: map[int]reflect.Type{200: reflect.TypeFor[pastView]()}, faults: []int{422},
		},
		{
			method: "GET", path: "/v1/feed", id: "feed", serve: s.feed,
			summary: "Read the feed, oldest first by default: dead, host_state, activity_done and, if feed-delivered is set, delivered; action only if asked for",
			params: []param{
				{name: "after", in: "query", doc: "next_cursor of the page before, or the cursor of an entry, in the same order; by default where the order begins; now is behind the newest entry"},
				{name: "sort", in: "query", doc: "oldest (by default) or newest first", enum: texts(feedSorts)},
				{name: "type", in: "query", doc: "entries of these types only; repeated or separated by commas; all but action by default", enum: texts(feedKinds), list: true},
				{name: "host", in: "query", doc: "entries about these hosts only; repeated or separated by commas", list: true},
				paging[0],
			},
			replies: ok[page[entry]](), faults: []int{422},
		},
		{
			method: "GET", path: "/v1/events", id: "events", raw: http.HandlerFunc(s.events),
			summary: "Events from now on, as server-sent events: delivered, dead, host_state, and every 5 s stats",
			params: []param{
				{name: "type", in: "query", doc: "events of these types only; repeated or separated by commas; all but action by default", enum: texts(eventKinds), list: true},
				{name: "host", in: "query", doc: "events of these hosts only, and stats only if its type is asked for; repeated or separated by commas", list: true},
			},
			media:  "text/event-stream",
			stream: []reflect.Type{reflect.TypeFor[entry](), reflect.TypeFor[statsView]()},
			faults: []int{422},
		},
		{
			method: "GET", path: profilesPrefix + "{profile}", id: "get-profile", summary: "Take a profile of the node, for go tool pprof",
			serve: s.getProfile, timeout: bulkTimeout,
			params: []param{
				{name: "seconds", in: "query", doc: "how long profile (30 by default) and trace (1) record, 1 to 500", number: true},
				{name: "debug", in: "query", doc: "1 or 2: as text, 2 with the stacks of all goroutines", enum: []string{"1", "2"}},
			},
			replies: ok[profileBytes](), faults: []int{404, 409, 422},
		},
		{
			method: "GET", path: "/healthz", id: "healthz", summary: "Whether the process is alive", serve: s.healthz,
			replies: ok[healthView](),
		},
		{
			method: "GET", path: "/readyz", id: "readyz", summary: "Whether the node can work; if not, the reason",
			serve: s.readyz, replies: ok[healthView](),
		},
	}
}
