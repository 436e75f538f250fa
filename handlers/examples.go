package handlers

import "github.com/postrider/postrider/queue"

const (
	exampleID    = "01a0c2f4-9d1e-7c3a-8f00-2b6d5e4c1a90"
	exampleTime  = "2026-01-02T15:04:05.000Z"
	exampleHost  = "one.example"
	exampleInbox = "https://one.example/inbox"
	exampleURI   = "https://app.example/a/1"
	exampleKeyID = "https://app.example/users/alice#main-key"
)

var (
	exampleKey = keyView{
		KeyID: exampleKeyID, Algorithm: "ed25519", Fingerprint: "SHA256:fJ0LQ2V3tJ5Zt6wTqH9oUj4y5mXkqYvKzW1s8pC7aBk",
		PublicKey:  "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAebVWLo/mVPlAeLES6KmLp5AfhTrmlb7X4OORC60ElmQ=\n-----END PUBLIC KEY-----\n",
		SealedWith: "f9c2e1d04b7a8356", CreatedAt: exampleTime,
	}
	exampleAttempt  = &attempt{At: exampleTime, Status: 410, Outcome: "gone", Error: "410 Gone", Duration: 87}
	exampleActivity = activityView{
		ID: exampleID, ActivityID: exampleURI, Type: "Create", KeyID: exampleKeyID, Actor: "https://app.example/users/alice", CreatedAt: exampleTime, State: "pending",
		Counts: counts{Total: 3, Pending: 1, Delivered: 1, Dead: 1},
	}
	exampleDelivery = deliveryView{
		ID: exampleID + "-1", Inbox: exampleInbox, IDs: []string{"https://one.example/users/bob"}, Host: exampleHost, State: "pending",
		WaitsFor: "retry", Attempts: 1, NextAttemptAt: exampleTime, LastAttempt: exampleAttempt, History: []*attempt{exampleAttempt},
	}
	exampleOneDelivery = oneDelivery{
		DeliveryView: exampleDelivery, ActivityID: exampleURI, Type: "Create", Priority: "normal", CreatedAt: exampleTime,
		Metadata: []byte(`{"status_id":42}`), URL: activityURL(exampleID),
	}
	exampleAttempts = 1
	exampleEntry    = entry{
		Type: "dead", At: exampleTime, Cursor: "Jx0BdIM", ID: exampleID + "-2", ActivityID: exampleURI, Metadata: []byte(`{"status_id":42}`),
		Inbox: exampleInbox, IDs: []string{"https://one.example/users/bob"}, Host: exampleHost, Reason: "gone", Attempts: &exampleAttempts,
		LastAttempt: exampleAttempt, URL: activityURL(exampleID),
	}
	exampleHostView = hostView{
		Host: exampleHost, State: "open", Pending: 12, OldestPendingAt: exampleTime,
		Breaker:     breakerView{State: "open", Failures: 10, RetryAt: exampleTime},
		FailureDays: 1, FailedOn: []string{"2026-01-02"}, SignatureScheme: "cavage", LastSuccessAt: exampleTime,
		LastError: &attempt{At: exampleTime, Outcome: "unreachable", Error: "connection refused", Duration: 12},
	}
	examplePaused = withOrder(exampleHostView, queue.HostPaused, orderView{
		Action: "pause", Host: exampleHost, Reason: "they move", By: "moderators", Since: exampleTime,
	})
	exampleBlocked = withOrder(exampleHostView, queue.HostBlocked, orderView{
		Action: "block", Host: exampleHost, Reason: "spam, see ticket 42", By: "moderators", Since: exampleTime, Subdomains: true,
	})
	exampleAccepted = accepted{
		ID: exampleID, ActivityID: exampleURI, Accepted: 2, URL: activityURL(exampleID),
		Rejected: []rejection{{Inbox: "http://10.0.0.1/inbox", Reason: "http_not_allowed", Detail: "only https inboxes are accepted"}},
	}
	exampleNodes = nodesView{Partitions: 64, Items: []fleetNode{
		{
			Name: "web-1-3f9a2c", Self: true, Version: "1.2.3", StartedAt: exampleTime, Delivers: true, HasRoom: true,
			InFlight: 3, Concurrency: 512, Partitions: 33, LastHeardAt: exampleTime,
		},
		{
			Name: "web-2-b01d77", Version: "1.2.3", StartedAt: exampleTime, Delivers: true, HasRoom: true,
			InFlight: 3, Concurrency: 512, Partitions: 31, LastHeardAt: exampleTime,
		},
	}}
	exampleStats = statsView{
		Warnings: []warningView{},
		Fleet: fleetStats{
			Activities: 120, Pending: 340, Dead: 7, Delivered: 981_234, Died: map[string]int64{string(queue.ReasonGone): 7},
			PerSecond: fleetRates{Accepted: 12.5, Delivered: 11.9, Dead: 0.1}, Hosts: map[string]int{string(queue.HostHealthy): 812},
			OldestPendingAt: exampleTime,
		},
		Node: &nodeView{
			Version: "1.2.3", Signing: "openssl", StartedAt: exampleTime, Uptime: 86_400, InFlight: 3, Concurrency: 512,
			Attempts: map[string]int64{"delivered": 981_234}, PerSecond: nodeRates{Attempts: 12.1},
		},
	}
)

func withOrder(h hostView, state queue.HostState, o orderView) hostView {
	h.State, h.Orders = string(state), []*orderView{&o}
	return h
}

// examples are the answers that the document shows, by operation. Of a stream it is one of its parts.
var examples = map[string]any{
	"put-key":     exampleKey,
	"list-keys":   page[keyView]{Items: []keyView{exampleKey}, NextCursor: "aHR0cHM6Ly9hcHAuZXhhbXBsZS91c2Vycy9hbGljZSNtYWluLWtleQ"},
	"reseal-keys": resealView{Total: 3, Resealed: 3, Seal: "f9c2e1d04b7a8356"},

	"post-activity":     exampleAccepted,
	"post-batch":        lineAccepted{Status: 202, AcceptedView: exampleAccepted},
	"get-activity":      exampleActivity,
	"list-activities":   page[activityView]{Items: []activityView{exampleActivity}},
	"cancel-activities": cancelledMany{Activities: 2, Cancelled: 17},
	"get-body":          sentBytes(`{"id": "https://app.example/a/1", "type": "Create"}`),
	"get-delivery":      exampleOneDelivery,
	"cancel-activity":   exampleActivity,
	"list-deliveries": page[deliveryView]{Items: []deliveryView{
		exampleDelivery,
		{ID: exampleID + "-2", Inbox: "https://two.example/inbox", Host: "two.example", State: "dead", Reason: "gone", Attempts: 1, DiedAt: exampleTime, LastAttempt: exampleAttempt, History: []*attempt{exampleAttempt}},
	}},

	"list-hosts":           page[hostView]{Items: []hostView{exampleHostView}},
	"list-host-deliveries": page[oneDelivery]{Items: []oneDelivery{exampleOneDelivery}, NextCursor: "1024"},
	"get-host":             exampleHostView, "pause-host": examplePaused, "resume-host": exampleHostView,
	"block-host": exampleBlocked, "unblock-host": exampleHostView, "reset-host": exampleHostView,
	"probe-host": exampleHostView, "seen-host": exampleHostView, "reset-hosts": hostsReset{Reset: 12},

	"list-dead-letters": page[deadLetter]{Items: []deadLetter{{
		ID: exampleID + "-2", ActivityID: exampleURI, Inbox: exampleInbox, Host: exampleHost, Reason: "gone", Attempts: 1,
		IDs: []string{"https://one.example/users/bob"}, LastAttempt: exampleAttempt, DiedAt: exampleTime, URL: activityURL(exampleID),
		History: []*attempt{exampleAttempt}, Metadata: []byte(`{"status_id":42}`),
	}}},
	"retry-dead-letters":  retried{Matched: 3, Retried: 2},
	"delete-dead-letters": deleted{Matched: 3, Deleted: 3},

	"list-nodes": exampleNodes,
	"stats":      exampleStats,
	"stats-history": pastView{StepSeconds: 60, Items: []stepView{{
		At: "2026-01-02T15:04:00.000Z", Activities: 12, Accepted: 750, Delivered: 714, Dead: 2, Died: map[string]int64{string(queue.ReasonGone): 2},
		Attempts: map[string]int64{"delivered": 714, "gone": 2, "unreachable": 31}, Pending: 340,
		Hosts:   map[string]int64{string(queue.HostRefusing): 1, string(queue.HostOpen): 4, string(queue.HostUnavailable): 9},
		Latency: &latencyView{P50: 84, P95: 410},
	}}},
	"feed":        page[entry]{Items: []entry{exampleEntry}, NextCursor: exampleEntry.Cursor},
	"events":      exampleEntry,
	"healthz":     healthView{Status: "ok"},
	"readyz":      healthView{Status: "ok"},
	"get-profile": profileBytes("binary"),
	"metrics":     plainText("# TYPE postrider_deliveries_pending gauge\npostrider_deliveries_pending 340\n"),
	"problem":     plainText(problemPages[noInboxAcceptedType]),
	"openapi":     map[string]any{"openapi": "3.1.0", "info": map[string]any{"title": "Postrider", "version": "1.2.3"}},
}
