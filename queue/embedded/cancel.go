package embedded

import (
	"cmp"
	"context"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// Cancel implements queue.Operating.
func (s *Store) Cancel(ctx context.Context, id string) (_ queue.ActivityStatus, err error) {
	defer wrap(&err, "cancel "+id)
	var answer error
	o := &cancellation{s: s}
	err = s.writer.do(ctx, func(t *tx) error {
		var a stored
		a, answer = s.clock.readActivity(t.conn, id)
		o.spans = []deliverySpan{{a.seq, a.first, a.end}} // empty if there is no such activity
		if err := o.run(t); err != nil || len(o.cancelled) == 0 {
			return err
		}
		return t.feed(queue.ActivityActed(ctx, queue.ActionCancel, id, a.URI))
	}, o.apply)
	if err = cmp.Or(err, answer); err != nil {
		return queue.ActivityStatus{}, err
	}
	return s.Activity(ctx, id)
}

// deliverySpan is the deliveries of an activity from one to before another.
type deliverySpan struct{ activity, from, to int64 }

// cancellation is the operation that cancels what is pending in some spans.
type cancellation struct {
	s         *Store
	spans     []deliverySpan
	cancelled []int64         // deliveries
	of        map[int64]int64 // how many of each activity
}

func (o *cancellation) run(t *tx) error {
	o.cancelled, o.of = nil, map[int64]int64{} // may run twice
	for _, span := range o.spans {
		err := each(t.conn, "DELETE FROM deliveries WHERE id >= ? AND id < ? RETURNING id", []any{span.from, span.to}, func(row *sqlite.Stmt) error {
			o.cancelled = append(o.cancelled, row.ColumnInt64(0))
			o.of[span.activity]++
			return nil
		})
		if err != nil {
			return err
		}
	}
	for activity, n := range o.of {
		t.count(activity).cancelled += n
	}
	return nil
}

func (o *cancellation) apply() {
	x, now := o.s.index, o.s.clock.now()
	for _, id := range o.cancelled {
		if e := x.entries[id]; e != nil {
			x.remove(e, now)
			x.place(e.lane, now)
		}
	}
}
