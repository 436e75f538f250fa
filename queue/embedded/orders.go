package embedded

import (
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// The kinds of orders.
const (
	pausing = iota
	blocking
	orderKinds
)

// orderActions are the actions that give and end an order, by its kind.
var orderActions = [orderKinds]struct{ give, end queue.HostAction }{{queue.Pause, queue.Resume}, {queue.Block, queue.Unblock}}

// order is an order as it is stored. One without end is until never.
type order struct {
	queue.Order
	since, until int64
}

// covers reports whether an order covers other hosts.
func (o *order) covers() bool { return o != nil && o.Subdomains }

// repeats reports whether an order changes nothing where another one was given. Either is nil if there is none.
func (o *order) repeats(before *order, now int64) bool {
	if before != nil && before.until <= now {
		before = nil
	}
	if o == nil || before == nil {
		return o == before
	}
	return *o == *before
}

// hostOrders are the orders that were given for one host, by kind; nil if there is none.
type hostOrders [orderKinds]*order

// holding are the orders that hold for a host, its own and those that cover it.
type holding struct {
	host string
	of   func(name string) hostOrders
}

// orderEnds is when the last order of each kind ends that holds for a host, 0 if there is none.
type orderEnds [orderKinds]int64

// each calls f for the orders of a kind: first the host's own, then those that cover it, the nearest first.
func (h holding) each(kind int, f func(name string, o *order)) {
	if o := h.of(h.host)[kind]; o != nil {
		f(h.host, o)
	}
	for name := range queue.Over(h.host) {
		if o := h.of(name)[kind]; o.covers() {
			f(name, o)
		}
	}
}

func (h holding) ends() (e orderEnds) {
	for kind := range e {
		h.each(kind, func(_ string, o *order) { e[kind] = max(e[kind], o.until) })
	}
	return e
}

// shown returns the orders of a kind as they are shown.
func (h holding) shown(kind int, k *clock, now int64) (all []queue.HostOrder) {
	h.each(kind, func(name string, o *order) {
		if o.until <= now {
			return
		}
		shown := queue.HostOrder{
			Action: orderActions[kind].give, Host: name, Reason: o.Reason, By: o.By, Since: k.shown(o.since), Subdomains: o.Subdomains,
		}
		if o.until != never {
			shown.Until = k.shown(o.until)
		}
		all = append(all, shown)
	})
	return all
}

// orders are all that were given and not ended. Only the writer changes them, under the store's mutex.
type orders struct {
	byHost  map[string]hostOrders
	next    int64    // when the first ends, or before
	reviews []review // lanes to look at, as an order that covers or covered them has changed
}

// review is a pass over the lanes that an order covers, in the order of their names.
type review struct{ name, after string }

func newOrders() *orders { return &orders{byHost: map[string]hostOrders{}, next: never} }

func (o *orders) of(name string) hostOrders { return o.byHost[name] }

// ends costs next to nothing while there are no orders.
func (o *orders) ends(host string) orderEnds {
	if len(o.byHost) == 0 {
		return orderEnds{}
	}
	return holding{host, o.of}.ends()
}

// set changes an order; nil ends it.
func (o *orders) set(c orderChange) {
	own := o.byHost[c.host]
	if own[c.kind].covers() || c.order.covers() {
		o.reviews = append(o.reviews, review{name: c.host})
	}
	own[c.kind] = c.order
	o.byHost[c.host] = own
	if own == (hostOrders{}) {
		delete(o.byHost, c.host)
	}
	if c.order != nil {
		o.next = min(o.next, c.order.until)
	}
}

// over returns changes that end the orders whose time has passed, at most endAtOnce.
func (o *orders) over(now int64) (all []orderChange) {
	if now < o.next {
		return nil
	}
	for host, own := range o.byHost {
		for kind, order := range own {
			if order != nil && order.until <= now && len(all) < endAtOnce {
				all = append(all, orderChange{host: host, kind: kind})
			}
		}
	}
	return all
}

// ended finds when the next order ends, once those that over returned have.
func (o *orders) ended(now int64) {
	if now < o.next {
		return
	}
	o.next = never
	for _, own := range o.byHost {
		for _, order := range own {
			if order != nil {
				o.next = min(o.next, order.until)
			}
		}
	}
}

const (
	endAtOnce    = 500  // orders that one operation ends
	reviewAtOnce = 2000 // lanes that are looked at under the lock at once
)

// orderChange gives an order, or ends it.
type orderChange struct {
	host  string
	kind  int
	order *order // nil ends it
}

// orderName is the key of an order in the database.
func orderName(kind int, host string) string { return string(orderActions[kind].give) + " " + host }

// setOrder writes a change, which index.setOrder applies.
func (t *tx) setOrder(c orderChange) error {
	own := t.ordersOf(c.host)
	own[c.kind] = c.order
	t.orders[c.host] = own
	o := c.order
	if o == nil {
		return t.exec("DELETE FROM orders WHERE name = ?", orderName(c.kind, c.host))
	}
	return t.exec("INSERT OR REPLACE INTO orders (name, since, until, subdomains, reason, token) VALUES (?,?,?,?,?,?)",
		orderName(c.kind, c.host), o.since, o.until, o.Subdomains, o.Reason, o.By)
}

// ordersOf returns the orders that were given for a host, with the changes of this transaction.
func (t *tx) ordersOf(host string) hostOrders {
	return latest(t.ledger.orders.byHost, t.orders, host)
}

// holding returns the orders that hold for a host, with the changes of this transaction.
func (t *tx) holding(host string) holding { return holding{host, t.ordersOf} }

// newOrder makes an order to be stored. If it replaces one, it holds as long as that one already does.
func newOrder(o queue.Order, before *order, now int64) *order {
	made := &order{Order: o, since: now, until: never}
	if o.For > 0 {
		made.until = now + max(1, o.For.Milliseconds())
	}
	made.For = 0
	if before != nil && before.until > now {
		made.since = before.since
	}
	return made
}

// ordersFor returns the orders that hold for a host, as they are shown.
func (x *index) ordersFor(host string, k *clock, now int64) (all []queue.HostOrder) {
	for kind := range orderActions {
		all = append(all, holding{host, x.orders.of}.shown(kind, k, now)...)
	}
	return all
}

// setOrder applies a change that tx.setOrder wrote.
func (x *index) setOrder(c orderChange, now int64) {
	x.orders.set(c)
	if l := x.lanes[c.host]; l != nil {
		l.held = x.orders.ends(l.host)
		x.place(l, now)
	}
}

// review looks at the next few lanes that an order covers or covered, and reports whether there may be more.
func (x *index) review(now int64) (more bool) {
	if len(x.orders.reviews) == 0 {
		return false
	}
	r, looked := &x.orders.reviews[0], 0
	done := true
	x.names.after("", r.after, func(l *lane) bool {
		if looked == reviewAtOnce {
			done = false
			return false
		}
		looked++
		r.after = l.host
		for name := range queue.Over(l.host) {
			if name == r.name {
				l.held = x.orders.ends(l.host)
				x.place(l, now)
			}
		}
		return true
	})
	if done {
		x.orders.reviews = x.orders.reviews[1:]
	}
	return len(x.orders.reviews) > 0
}

// reviewAll looks at all lanes that orders cover or covered, in steps that let others look into memory between them.
func (s *Store) reviewAll() {
	for more := true; more; {
		s.mu.Lock()
		more = s.index.review(s.clock.now())
		s.mu.Unlock()
	}
}

// endOrders ends orders whose time has passed.
func (o *sweep) endOrders(t *tx) error {
	o.s.mu.Lock()
	o.ended = o.s.index.orders.over(o.now)
	lanes := map[string]int64{}
	for _, c := range o.ended {
		if l := o.s.index.lanes[c.host]; l != nil {
			lanes[c.host] = l.id
		}
	}
	o.s.mu.Unlock()
	for _, c := range o.ended {
		if err := t.setOrder(c); err != nil {
			return err
		}
		t.touch(lanes[c.host])
	}
	return nil
}

// orders loads the orders, before the lanes.
func (l *loader) orders() error {
	all := newOrders()
	l.s.index.orders = all
	l.ledger.orders = all
	query := "SELECT name, since, until, subdomains, reason, token FROM orders"
	return each(l.c, query, nil, func(row *sqlite.Stmt) error {
		action, host, _ := strings.Cut(row.ColumnText(0), " ")
		o := &order{since: row.ColumnInt64(1), until: row.ColumnInt64(2)}
		o.Subdomains, o.Reason = row.ColumnBool(3), row.ColumnText(4)
		o.By = row.ColumnText(5)
		for kind := range orderActions {
			if string(orderActions[kind].give) == action {
				all.set(orderChange{host, kind, o})
			}
		}
		return nil
	})
}

// moved returns an order as another store gets it.
func (o *order) moved(k *clock, host string, kind int, now int64) queue.MovedOrder {
	m := queue.MovedOrder{Host: host, Action: orderActions[kind].give, Order: o.Order, Since: k.shown(o.since)}
	if o.until != never {
		m.For = time.Duration(o.until-now) * time.Millisecond
	}
	return m
}
