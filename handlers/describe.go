package handlers

import (
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// group is a part of the API, a tag in the document.
type group struct{ name, prefix, about string }

// groups are the parts of the API. A route belongs to the first whose prefix it has.
var groups = []group{
	{"Keys", "/v1/keys", "The private keys that sign deliveries."},
	{"Activities", "/v1/activities", "Activities are accepted, watched and cancelled."},
	{"Hosts", "/v1/hosts", "The state of remote servers, and actions on them."},
	{"Dead letters", "/v1/dead-letters", "Deliveries that ended without being delivered."},
	{"Watching", "", "Totals, events, metrics and health of the node and of the whole store."},
}

func (rt *route) group() string {
	for _, g := range groups {
		if strings.HasPrefix(rt.path, g.prefix) {
			return g.name
		}
	}
	return ""
}

func tags() []*huma.Tag {
	return views(groups, func(g *group) *huma.Tag { return &huma.Tag{Name: g.name, Description: g.about} })
}

// descriptions are what the document says of each operation beyond its summary.
var descriptions = map[string]string{
	"put-key":     "The key is looked up by its ID whenever a delivery is signed, so a new key also signs what is already queued. Deliveries that wait for the key become due. The private key is never returned.",
	"list-keys":   "Private keys are never shown.",
	"delete-key":  "Deliveries that need the key wait until it is put again, or until they expire.",
	"reseal-keys": "Use it when the master key changes: start the node with the new master key before the old one, then call this.",

	"post-activity": "The answer is sent after all deliveries are durable. Without an Idempotency-Key, a repeated call is a new submission. " +
		"A delivery is a duplicate if the newest one pending for its inbox is of the same activity. " +
		"If none of the inboxes is accepted, the answer is 422 with the type " + noInboxAcceptedType + ".",
	"post-batch": "Each line is the body of a call of POST /v1/activities, and each line of the answer is the answer to that call, in the same order. " +
		"A blank line is answered too. A line that is refused does not affect the others. " +
		"If the store can't take a line, later lines that must be delivered after it fail in the same way, so that all of them can be sent again in order. " +
		"A line with an idempotency_key may be repeated in any batch, or in a single call with the same bytes.",
	"get-activity":      "An activity can be looked up while deliveries are pending, and for some days after.",
	"cancel-activity":   "Attempts in flight may still arrive. The answer has the counts after the cancellation.",
	"list-activities":   "A filter by activity_id, actor or key_id is quick however many activities are kept. Without one of these a page may be shorter than its limit before the end.",
	"cancel-activities": "Attempts in flight may still arrive. After an error it may be repeated, for those that are left. An empty list of activity_ids cancels nothing.",
	"get-body":          "They are kept as long as any delivery of the activity is pending or dead.",
	"get-delivery":      "Deliveries that succeeded are only counted, so they are not found.",
	"list-deliveries":   "Deliveries that succeeded are only counted, so that large fan-outs do not fill the store.",

	"list-hosts": "Hosts are listed from the first delivery or action on.",
	"get-host":   "A host that is not known is healthy and has nothing pending.",
	"list-host-deliveries": "They are listed in the order accepted, whatever their priority, those that are being attempted too. Each says what it waits for. " +
		"A page costs the same however many there are, and nothing that stays pending while the pages are read is left out. A host that is not known has none.",
	"pause-host":   "A pause lasts until its time has passed or the host is resumed. Another pause replaces it. The host need not be known yet. With subdomains it covers every host under the name, whatever its port.",
	"resume-host":  "Pending deliveries become due as if the host had never been paused. It is 409 if only the pause of another host covers this one: resume that one.",
	"block-host":   "A block lasts until its time has passed or the host is unblocked. Another block replaces it. The host need not be known yet. With subdomains it covers every host under the name, whatever its port; what pends for those becomes dead letters a moment after the answer.",
	"unblock-host": "Dead letters can be retried afterwards. It is 409 if only the block of another host covers this one: unblock that one.",
	"reset-host":   "Use it after an outage that was not the host's own fault.",
	"reset-hosts":  "Use it after an outage of your own network, which the nodes took for outages of the hosts.",
	"probe-host":   "One attempt is made. If it fails, the host waits again.",
	"seen-host":    "Call it when the app receives something from the host. It never closes a breaker by itself.",

	"list-dead-letters":   "Filters narrow the list; a dead letter has to match all of them.",
	"retry-dead-letters":  "The filter can be in the query or in a JSON body; the body wins. Dead letters for hosts that are blocked or unavailable stay.",
	"delete-dead-letters": "The filter can be in the query or in a JSON body; the body wins. Activities still count deleted dead letters as dead.",

	"list-nodes": "They are listed by name, as they said themselves in the last seconds. A node hears of another within two seconds, and forgets one that it has not heard for three. " +
		"It is 503 while the node can't hear the others. On the embedded store there is one node.",
	"stats": "The totals are those of the whole store; every node gives the same.",
	"stats-history": "It is that of the whole store; every node gives the same, also of before it started. The last step ended some seconds ago. " +
		"The numbers are for charts: what a node counted in its last minute is lost if it dies.",
	"feed": "Entries of the type action say who changed what through the API; only calls that name this type get them. " +
		"Entries are kept for feed-retention, whether or not they were read. Each comes at least once, and those of one host in order. A page may be shorter than its limit, even empty; next_cursor is always there and goes on with what happens later. With sort=newest it goes on with what happened before, and is absent once the oldest entry was passed. If the entry behind a cursor is not kept any more, it goes on with the oldest.",
	"events":      "The stream stays open. Events with an id are entries of the feed: a subscriber that sends the last one as Last-Event-ID misses none. Others are only sent to those who are connected. The data of an event is one of the forms described here, by its name.",
	"healthz":     "It does not depend on the store.",
	"readyz":      "It is 503 while the store is away or the node is starting or stopping.",
	"get-profile": "It needs the scope operate. Only one profile of the processors, and one trace, is recorded at a time. No profile holds contents of memory.",
	"metrics":     "In the text format of Prometheus.",
	"problem":     "The type of a problem is the address of such a page.",
	"openapi":     "In version 3.1 of OpenAPI.",
}
