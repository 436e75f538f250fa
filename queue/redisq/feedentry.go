package redisq

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
)

// feedEntry is an entry of the feed.
type feedEntry struct {
	queue.Event
	at    position
	after []cause // entries that have to be listed before it
}

// cause is the position of an entry that has to be listed before another one, and its partition.
type cause struct {
	position
	partition int
}

// The kinds of entries; see feed.lua.
const (
	_ = iota
	fedDelivered
	fedDead
	fedState
	fedDone
	fedAction
)

// entry reads an entry of the feed. One that is damaged has no kind.
func (p *partition) entry(id, text string) feedEntry {
	e := feedEntry{}
	ms, n, _ := strings.Cut(id, "-")
	e.at.ms, _ = strconv.ParseInt(ms, 10, 64) // Redis makes them
	e.at.n, _ = strconv.ParseInt(n, 10, 64)
	e.At = p.lag.shown(e.at.ms)
	u := &unpacker{text: text}
	u.array()
	switch kind := u.number(); kind {
	case fedState:
		e.Kind = queue.EventHostState
		e.Host = u.string()
		e.State = queue.HostState(u.string())
		if u.text == "" {
			break // of an earlier version
		}
		e.By = u.string()
		if e.Order = p.readOrder(u); e.Order != nil {
			e.By = cmp.Or(e.By, e.Order.By)
		}
	case fedDone:
		e.readDone(u)
	case fedAction:
		if err := decode(u.string(), &e.Event); err != nil && u.err == nil {
			u.err = err
		}
		e.Kind = queue.EventAction
	case fedDelivered, fedDead:
		p.readDelivery(&e, u)
		e.Kind = queue.EventDead
		if kind == fedDelivered {
			e.Kind = queue.EventDelivered
		}
	default:
		u.err = errPacked
	}
	if u.err == nil {
		return e
	}
	p.logLimited("feed", &damage{p.Key(rediskeys.Feed), id, u.err.Error()})
	return feedEntry{at: e.at}
}

func (e *feedEntry) readDone(u *unpacker) {
	e.Kind = queue.EventActivityDone
	e.ActivityID = u.activity()
	e.Counts = &queue.Counts{Total: int(u.number()), Delivered: int(u.number()), Dead: int(u.number()), Cancelled: int(u.number())}
	e.readLabels(u)
	if u.text == "" {
		return
	}
	const parts = 3
	for range u.array() / parts {
		n := int(u.number())
		e.after = append(e.after, cause{position{u.number(), u.number()}, n})
	}
}

func (p *partition) readDelivery(e *feedEntry, u *unpacker) {
	e.Host = u.string()
	e.Inbox = inboxOf(e.Host, u.string())
	e.IDs = unpackIDs(e.Host, u.string())
	e.ActivityID = u.activity()
	e.ID = p.deliveryID(e.ActivityID, u.number())
	e.Attempts = int(u.number())
	attempt, err := attemptOf(u.string())
	if err != nil && u.err == nil {
		u.err = err
	}
	e.Attempt = attempt
	e.readLabels(u)
	e.Reason = queue.Reason(u.string())
}

func (e *feedEntry) readLabels(u *unpacker) {
	uri, metadata, _, err := splitLabels(u.string())
	if err != nil && u.err == nil {
		u.err = err
	}
	e.URI = uri
	e.Metadata = metadata
}

// activity reads the ID of an activity.
func (u *unpacker) activity() string {
	id, err := uuid.FromBytes([]byte(u.string()))
	if err != nil && u.err == nil {
		u.err = err
	}
	return id.String()
}
