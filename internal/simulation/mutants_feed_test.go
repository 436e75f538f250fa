//go:build !race

package simulation

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// mutantsOfFeed are stores whose feed does not say what happened.
func mutantsOfFeed() map[string]mutant {
	return map[string]mutant{
		"loses entries of the dead":       {hiding(queue.EventDead), "and the feed has no entry"},
		"loses entries of the delivered":  {hiding(queue.EventDelivered), "ended (delivered), and the feed has no entry"},
		"loses entries of what is done":   {hiding(queue.EventActivityDone), "is done, and the feed has no entry"},
		"loses entries of hosts":          {hiding(queue.EventHostState), "by the feed it is"},
		"invents dead letters":            {mutation{store: func(_ *world, q queue.Queue) queue.Queue { return &inventor{Queue: q} }}, "died as rejected"},
		"tells of hosts twice":            {listing(twice), "which is no change"},
		"says done before the last ended": {listing(doneFirst), "done by the feed"},
		"turns pages round":               {listing(reversed), "reader"},
		"miscounts what is done":          {listing(miscounted), "done by the feed with"},
		"skips an entry between pages":    {mutation{store: func(_ *world, q queue.Queue) queue.Queue { return skipper{q} }}, "reader"},
		"repeats an entry between pages":  {mutation{store: func(_ *world, q queue.Queue) queue.Queue { return repeater{q} }}, "reader"},
		"gives entries the next cursor":   {listing(ahead), "reader"},
		"skips to the end":                {mutation{store: func(_ *world, q queue.Queue) queue.Queue { return impatient{q} }}, "reader"},
	}
}

// lister is a store that changes what its feed lists.
type lister struct {
	queue.Queue
	change func([]queue.Event) []queue.Event
}

func (m lister) Feed(ctx context.Context, f queue.FeedFilter, p queue.Page) (queue.List[queue.Event], error) {
	list, err := m.Queue.Feed(ctx, f, p)
	list.Items = m.change(list.Items)
	return list, err
}

// listing is a store that changes the entries of each page.
func listing(change func([]queue.Event) []queue.Event) mutation {
	return mutation{store: func(_ *world, q queue.Queue) queue.Queue { return lister{q, change} }}
}

// hiding is a store that never lists some entries of a kind.
func hiding(kind queue.EventKind) mutation {
	return listing(func(es []queue.Event) []queue.Event {
		return slices.DeleteFunc(es, func(e queue.Event) bool {
			return e.Kind == kind && mix(0, e.ActivityID, e.Inbox, e.Host, string(e.State))%4 == 0
		})
	})
}

// twice lists the entries of hosts twice.
func twice(es []queue.Event) (all []queue.Event) {
	for _, e := range es {
		if all = append(all, e); e.Kind == queue.EventHostState {
			all = append(all, e)
		}
	}
	return all
}

// doneFirst lists an activity that is done before the end of its last delivery.
func doneFirst(es []queue.Event) []queue.Event {
	for i := 1; i < len(es); i++ {
		if es[i].Kind == queue.EventActivityDone && es[i-1].ActivityID == es[i].ActivityID {
			es[i-1], es[i] = es[i], es[i-1]
		}
	}
	return es
}

func reversed(es []queue.Event) []queue.Event {
	slices.Reverse(es)
	return es
}

// miscounted counts one that is dead as delivered.
func miscounted(es []queue.Event) []queue.Event {
	for i := range es {
		if n := es[i].Counts; n != nil && n.Dead > 1 {
			es[i].Counts = &queue.Counts{Total: n.Total, Delivered: n.Delivered + 1, Dead: n.Dead - 1, Cancelled: n.Cancelled}
		}
	}
	return es
}

// ahead gives each entry the cursor of the next.
func ahead(es []queue.Event) []queue.Event {
	for i := range len(es) - 1 {
		es[i].Cursor = es[i+1].Cursor
	}
	return es
}

// inventor lists as dead what is tried again.
type inventor struct {
	queue.Queue
	mu    sync.Mutex
	tries int           // guarded by mu
	dead  []queue.Event // to be listed; guarded by mu
}

func (m *inventor) Settle(ctx context.Context, l lockmgr.Lease, s queue.Settlement, n int) ([]queue.Delivery, error) {
	for _, r := range s.Results {
		if r.Verdict != queue.Retry {
			continue
		}
		d, err := m.Delivery(ctx, r.ID)
		m.mu.Lock()
		if m.tries++; err == nil && m.tries%20 == 0 {
			id, _, _ := strings.Cut(r.ID, ".")
			m.dead = append(m.dead, queue.Event{
				Kind: queue.EventDead, Host: l.Host, ActivityID: id, URI: d.URI, Metadata: d.Metadata, ID: r.ID, Inbox: d.Inbox,
				IDs: d.IDs, Reason: queue.ReasonRejected, Attempts: d.Attempts + 1, Attempt: r.Attempt,
			})
		}
		m.mu.Unlock()
	}
	return m.Queue.Settle(ctx, l, s, n)
}

func (m *inventor) Feed(ctx context.Context, f queue.FeedFilter, p queue.Page) (queue.List[queue.Event], error) {
	list, err := m.Queue.Feed(ctx, f, p)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.dead {
		e.Cursor = list.Next
		list.Items = append(list.Items, e)
	}
	m.dead = nil
	return list, err
}

// skipper gives a full page a cursor that is one entry too far.
type skipper struct{ queue.Queue }

func (m skipper) Feed(ctx context.Context, f queue.FeedFilter, p queue.Page) (queue.List[queue.Event], error) {
	most := p.Limit
	p.Limit++
	list, err := m.Queue.Feed(ctx, f, p)
	if len(list.Items) > most {
		list.Items = list.Items[:most]
	}
	return list, err
}

// repeater gives a full page a cursor that is one entry too early.
type repeater struct{ queue.Queue }

func (m repeater) Feed(ctx context.Context, f queue.FeedFilter, p queue.Page) (queue.List[queue.Event], error) {
	list, err := m.Queue.Feed(ctx, f, p)
	if n := len(list.Items); n == p.Limit && n > 1 {
		list.Next = list.Items[n-2].Cursor
	}
	return list, err
}

// impatient goes on at the end after a full page.
type impatient struct{ queue.Queue }

func (m impatient) Feed(ctx context.Context, f queue.FeedFilter, p queue.Page) (queue.List[queue.Event], error) {
	list, err := m.Queue.Feed(ctx, f, p)
	if err == nil && len(list.Items) == p.Limit && p.Limit < 100 {
		var end queue.List[queue.Event]
		end, err = m.Queue.Feed(ctx, f, queue.Page{Limit: 1, Cursor: queue.FeedEnd})
		list.Next = end.Next
	}
	return list, err
}
