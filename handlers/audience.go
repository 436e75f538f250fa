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

// maxRejections is how many rejections are listed. The others are counted, so that what a call takes in memory follows
// its bytes: a rejection takes a hundred times as much as an inbox of a letter.
const maxRejections = 1000

// location is where an inbox stands in the call. It is small, as there are many.
type location struct {
	index  int32
	member member
}

// member is what an inbox is in a call.
type member uint8

const (
	inInboxes member = iota
	asInbox          // of a recipient
	asSharedInbox
)

// String writes the location as an error names it.
func (at location) String() string {
	if at.member == inInboxes {
		return fmt.Sprintf("body.inboxes[%d]", at.index)
	}
	return at.of(recipientMembers[at.member])
}

var recipientMembers = [...]string{asInbox: "inbox", asSharedInbox: "shared_inbox"}

// of writes the location of a member of the recipient.
func (at location) of(member string) string {
	return fmt.Sprintf("body.recipients[%d].%s", at.index, member)
}

// none is the index of an inbox that is not delivered to.
const none = -1

// audience collects the inboxes of a call, each once: as deliveries or as rejections.
type audience struct {
	parse func(raw string) (netguard.Inbox, *netguard.Refusal)
	own   map[string]bool // inboxes of the activity's own actor, as URLs

	deliveries  []queue.Recipient
	deliveredAt []location  // of each delivery
	rejected    []rejection // maxRejections at most
	rejectedAt  []location  // of each of those
	more        int         // rejections that are not listed
	actors      map[actorAt]struct{}
	known       map[string]int // index in deliveries, or none, of inboxes as given and as URLs
	conflicts   []fault
}

// actorAt is an actor behind the inbox of a delivery.
type actorAt struct {
	delivery int
	id       string
}

// audienceOf returns the audience of a call.
func (s *server) audienceOf(c *activityCall) *audience {
	n := len(c.Inboxes) + len(c.Recipients)
	a := &audience{
		parse: func(raw string) (netguard.Inbox, *netguard.Refusal) {
			return netguard.ParseInbox(raw, s.AllowHTTP, s.Policy)
		},
		own: map[string]bool{}, known: make(map[string]int, n),
		deliveries: make([]queue.Recipient, 0, len(c.Inboxes)), deliveredAt: make([]location, 0, len(c.Inboxes)),
	}
	a.addRecipients(c)
	for i, inbox := range c.Inboxes {
		a.add(inbox, location{int32(i), inInboxes})
	}
	return a
}

// addRecipients adds all recipients but the activity's own actor.
func (a *audience) addRecipients(c *activityCall) {
	for i, r := range c.Recipients {
		switch {
		case r.is(c.facts.actor):
			if inbox, refusal := a.parse(r.Inbox); refusal == nil {
				a.own[inbox.URL] = true
			}
		case r.SharedInbox != "":
			a.addRecipient(r.SharedInbox, &c.Recipients[i], location{int32(i), asSharedInbox})
		default:
			a.addRecipient(r.Inbox, &c.Recipients[i], location{int32(i), asInbox})
		}
	}
}

// add adds an inbox and returns the index of its delivery.
func (a *audience) add(raw string, at location) int {
	i, known := a.known[raw]
	if !known {
		i = a.resolve(raw, at)
		a.known[raw] = i
	}
	return i
}

// addRecipient adds an inbox, or its actors and headers to the delivery that there is already.
func (a *audience) addRecipient(raw string, r *recipient, at location) {
	i := a.add(raw, at)
	if i == none {
		return
	}
	d := &a.deliveries[i]
	a.addActor(i, r.ID)
	for _, id := range r.IDs {
		a.addActor(i, id)
	}
	for _, h := range r.Headers {
		merged, ok := headers(d.Headers).with(h)
		if !ok || len(merged) > maxHeaders {
			a.conflict(at, h.Name, ok)
			return
		}
		d.Headers = merged
	}
}

// addActor adds an actor behind the inbox of a delivery, once.
func (a *audience) addActor(i int, id string) {
	who := actorAt{i, id}
	if _, known := a.actors[who]; known || id == "" {
		return
	}
	if a.actors == nil {
		a.actors = map[actorAt]struct{}{}
	}
	a.actors[who] = struct{}{}
	a.deliveries[i].IDs = append(a.deliveries[i].IDs, id)
}

// resolve checks an inbox that is not known as given, and returns the index of its delivery.
func (a *audience) resolve(raw string, at location) int {
	inbox, refusal := a.parse(raw)
	if refusal != nil {
		a.reject(rejection{Inbox: clip(raw, netguard.MaxURL), Reason: refusal.Reason, Detail: refusal.Detail}, at)
		return none
	}
	if inbox.URL != raw {
		if i, known := a.known[inbox.URL]; known {
			return i
		}
	}
	if at.member == inInboxes && a.own[inbox.URL] {
		return none // the actor's own, and no other recipient shares it
	}
	i := len(a.deliveries)
	if inbox.URL != raw {
		a.known[inbox.URL] = i
	}
	a.deliveries = appendDoubling(a.deliveries, queue.Recipient{Inbox: inbox.URL, Host: inbox.Host})
	a.deliveredAt = appendDoubling(a.deliveredAt, at)
	return i
}

// reject lists a rejection, or counts it if many are listed already.
func (a *audience) reject(r rejection, at location) {
	if len(a.rejected) == maxRejections {
		a.more++
		return
	}
	a.rejected = append(a.rejected, r)
	a.rejectedAt = append(a.rejectedAt, at)
}

// conflict notes headers that can't go out in one delivery.
func (a *audience) conflict(at location, name string, many bool) {
	what := flaw{codeConflict, "differs between recipients that share the inbox"}
	if many {
		what = flaw{codeTooMany, "is one header too many for recipients that share the inbox"}
	}
	if len(a.conflicts) < maxFaults {
		a.conflicts = append(a.conflicts, what.at(at.of("headers."+name)))
	}
}

// refused puts what the store refused behind what was rejected here, as long as not too many are listed. It returns how
// many are not.
func refused(rejected []rejection, list []queue.Refusal) (all []rejection, more int) {
	listed := min(len(list), maxRejections-min(len(rejected), maxRejections))
	all = append(make([]rejection, 0, len(rejected)+listed), rejected...)
	for _, r := range list[:listed] {
		detail := "an operator blocked the host"
		if r.Reason == queue.ReasonHostUnavailable {
			detail = "the host has failed for days; only high priority reaches it"
		}
		all = append(all, rejection{Inbox: r.Inbox, Reason: string(r.Reason), Detail: detail})
	}
	return all, len(list) - listed
}

// noneAccepted is the problem of a valid call without an accepted inbox: the API or the store rejected each of them.
func (a *audience) noneAccepted(list []queue.Refusal) error {
	all, more := refused(a.rejected, list)
	locations := a.rejectedAt
	for _, r := range list[:len(list)-more] {
		locations = append(locations, a.deliveredAt[a.known[r.Inbox]])
	}
	if len(locations) == 0 {
		return noInboxAccepted(flaw{codeOwnActor, "there is no recipient but the activity's own actor"}.at("body.recipients"))
	}
	faults := make([]fault, len(locations))
	for i, r := range all {
		faults[i] = fault{
			Location: locations[i].String(), Code: code(r.Reason), Message: "was rejected: " + r.Reason,
			Inbox: r.Inbox, Reason: r.Reason, Detail: r.Detail,
		}
	}
	p := noInboxAccepted(faults...)
	p.RejectedMore = a.more + more
	return p
}
