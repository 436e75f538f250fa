package handlers

import (
	"fmt"

	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/queue"
)

// rejection is an inbox that is not delivered to.
type rejection struct {
	Inbox  string `json:"inbox" example:"http://127.0.0.1/inbox"`
	Reason string `json:"reason" enum:"private_address,bad_url,http_not_allowed,host_blocked,host_unavailable"`
	Detail string `json:"detail" doc:"for people"`
}

// place is where an inbox stands in the call.
type place struct {
	list   string // inboxes or recipients
	index  int
	member string // with recipients
}

// String writes the place as a location.
func (at place) String() string {
	if at.list == "inboxes" {
		return fmt.Sprintf("body.inboxes[%d]", at.index)
	}
	return fmt.Sprintf("body.recipients[%d].%s", at.index, at.member)
}

// none is the index of an inbox that is not delivered to.
const none = -1

// audience gathers the inboxes of a call, each once: as deliveries or as rejections.
type audience struct {
	parse func(raw string) (netguard.Inbox, *netguard.Refusal)
	own   map[string]bool // inboxes of the activity's own actor, as URLs

	deliveries  []queue.Recipient
	deliveredAt []place // of each delivery
	rejected    []rejection
	rejectedAt  []place
	known       map[string]int // index in deliveries, or none, of inboxes as given and as URLs
	conflicts   []fault
}

// gather makes the audience of a call.
func (s *server) gather(c *activityCall) *audience {
	n := len(c.Inboxes) + len(c.Recipients)
	a := &audience{
		parse: func(raw string) (netguard.Inbox, *netguard.Refusal) {
			return netguard.ParseInbox(raw, s.AllowHTTP, s.Policy)
		},
		own: map[string]bool{}, known: make(map[string]int, n),
		deliveries: make([]queue.Recipient, 0, len(c.Inboxes)), deliveredAt: make([]place, 0, len(c.Inboxes)),
	}
	a.addRecipients(c)
	for i, inbox := range c.Inboxes {
		a.add(inbox, nil, place{list: "inboxes", index: i})
	}
	return a
}

// addRecipients adds all recipients but the activity's own actor.
func (a *audience) addRecipients(c *activityCall) {
	for i, r := range c.Recipients {
		switch {
		case r.ID != "" && r.ID == c.facts.actor:
			if inbox, refusal := a.parse(r.Inbox); refusal == nil {
				a.own[inbox.URL] = true
			}
		case r.SharedInbox != "":
			a.add(r.SharedInbox, r.Headers, place{"recipients", i, "shared_inbox"})
		default:
			a.add(r.Inbox, r.Headers, place{"recipients", i, "inbox"})
		}
	}
}

// add adds an inbox, or its headers to the delivery that there is already.
func (a *audience) add(raw string, hs headers, at place) {
	i, known := a.known[raw]
	if !known {
		i = a.resolve(raw, at)
		a.known[raw] = i
	}
	if i == none || len(hs) == 0 {
		return
	}
	d := &a.deliveries[i]
	for _, h := range hs {
		merged, ok := headers(d.Headers).with(h)
		if !ok || len(merged) > maxHeaders {
			a.conflict(at, h.Name, ok)
			return
		}
		d.Headers = merged
	}
}

// resolve judges an inbox that is not known as given, and returns the index of its delivery.
func (a *audience) resolve(raw string, at place) int {
	inbox, refusal := a.parse(raw)
	if refusal != nil {
		a.rejected = append(a.rejected, rejection{Inbox: clip(raw, netguard.MaxURL), Reason: refusal.Reason, Detail: refusal.Detail})
		a.rejectedAt = append(a.rejectedAt, at)
		return none
	}
	if inbox.URL != raw {
		if i, known := a.known[inbox.URL]; known {
			return i
		}
	}
	if at.list == "inboxes" && a.own[inbox.URL] {
		return none // the actor's own, and no other recipient shares it
	}
	i := len(a.deliveries)
	if inbox.URL != raw {
		a.known[inbox.URL] = i
	}
	a.deliveries = append(a.deliveries, queue.Recipient{Inbox: inbox.URL, Host: inbox.Host})
	a.deliveredAt = append(a.deliveredAt, at)
	return i
}

// conflict notes headers that can't go out in one delivery.
func (a *audience) conflict(at place, name string, many bool) {
	message := "differs between recipients that share the inbox"
	if many {
		message = "is one header too many for recipients that share the inbox"
	}
	if len(a.conflicts) < maxFaults {
		at.member = "headers." + name
		a.conflicts = append(a.conflicts, fault{Location: at.String(), Message: message})
	}
}

// refused puts what the store refused behind what was rejected here.
func refused(rejected []rejection, list []queue.Refusal) []rejection {
	all := append(make([]rejection, 0, len(rejected)+len(list)), rejected...)
	for _, r := range list {
		detail := "an operator blocked the host"
		if r.Reason == queue.ReasonHostUnavailable {
			detail = "the host has failed for days; only high priority reaches it"
		}
		all = append(all, rejection{Inbox: r.Inbox, Reason: string(r.Reason), Detail: detail})
	}
	return all
}

// nobody is the problem of a call of which nothing was acceptable: not here, and not to the store.
func (a *audience) nobody(list []queue.Refusal) error {
	places := a.rejectedAt
	for _, r := range list {
		places = append(places, a.deliveredAt[a.known[r.Inbox]])
	}
	if len(places) == 0 {
		return invalid("body.recipients", "there is nobody but the activity's own actor")
	}
	faults := make([]fault, len(places))
	for i, r := range refused(a.rejected, list) {
		faults[i] = fault{
			Location: places[i].String(), Message: "was rejected: " + r.Reason,
			Inbox: r.Inbox, Reason: r.Reason, Detail: r.Detail,
		}
	}
	return unprocessable(faults...)
}
