package embedded

import (
	"context"
	"iter"

	"github.com/postrider/postrider/queue"
)

// cancelAtOnce is how many deliveries one operation looks at.
const cancelAtOnce = 1000

// CancelMany implements queue.Operating. It begins with the newest activities; what is accepted meanwhile is not meant.
func (s *Store) CancelMany(ctx context.Context, which queue.CancelChoice) (_ queue.CancelCount, err error) {
	defer wrap(&err, "cancel many")
	o := &cancelMany{s: s, dry: which.DryRun}
	if len(which.URIs) == 0 {
		err = o.all(ctx, queue.ActivityFilter{KeyID: which.KeyID})
	}
	for _, uri := range distinct(which.URIs) {
		if err == nil {
			err = o.all(ctx, queue.ActivityFilter{URI: uri, KeyID: which.KeyID})
		}
	}
	return o.n, err
}

// cancelMany is one call of CancelMany.
type cancelMany struct {
	s   *Store
	dry bool // only count
	n   queue.CancelCount
}

// all cancels the activities that pass a filter.
func (o *cancelMany) all(ctx context.Context, f queue.ActivityFilter) error {
	f.State = queue.ActivityPending
	found := &search{}
	for isFirst := true; isFirst || found.more; isFirst = false {
		found = &search{s: o.s, filter: f, at: found.at, limit: cancelAtOnce}
		if err := found.run(ctx); err != nil {
			return err
		}
		if err := o.cancel(ctx, found.found); err != nil {
			return err
		}
	}
	return nil
}

// cancel cancels some activities, one operation after another.
func (o *cancelMany) cancel(ctx context.Context, as []stored) error {
	if o.dry {
		for _, a := range as {
			o.n.Activities++
			o.n.Deliveries += a.Counts.Pending
		}
		return nil
	}
	counted := map[int64]struct{}{}
	defer func() { o.n.Activities += len(counted) }()
	for spans := range spansAtOnce(as) {
		if err := ctx.Err(); err != nil {
			return err
		}
		step := &cancellation{s: o.s, spans: spans}
		if err := o.s.writer.do(ctx, step.run, step.apply); err != nil {
			return err
		}
		o.n.Deliveries += len(step.cancelled)
		for activity := range step.of {
			counted[activity] = struct{}{}
		}
	}
	return nil
}

// spansAtOnce yields the deliveries of activities, in parts of cancelAtOnce.
func spansAtOnce(as []stored) iter.Seq[[]deliverySpan] {
	return func(yield func([]deliverySpan) bool) {
		var spans []deliverySpan
		room := int64(cancelAtOnce)
		for _, a := range as {
			for from := a.first; from < a.end; {
				to := min(a.end, from+room)
				spans = append(spans, deliverySpan{a.seq, from, to})
				room -= to - from
				from = to
				if room > 0 {
					continue
				}
				if !yield(spans) {
					return
				}
				spans, room = nil, cancelAtOnce
			}
		}
		if len(spans) > 0 {
			yield(spans)
		}
	}
}
