package queuetest

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// Faults is a store whose methods fail on demand: those of queue.Queue that take a context. It is safe for concurrent
// use.
type Faults struct {
	queue.Queue

	mu     sync.Mutex
	faults map[string]fault // guarded by mu: by method
}

// fault is what goes wrong with a method.
type fault struct {
	err   error
	lost  bool // the call is carried out, and only its answer lost
	delay time.Duration
}

// Faulty returns q with no faults yet.
func Faulty(q queue.Queue) *Faults {
	return &Faults{Queue: q, faults: map[string]fault{}}
}

// Fail lets every call of the method fail with err, and do nothing, until Clear.
func (f *Faults) Fail(method string, err error) {
	f.change(method, func(x *fault) { x.err, x.lost = err, false })
}

// Lose lets every call of the method be carried out, yet fail with err, until Clear: as if the answer was lost.
func (f *Faults) Lose(method string, err error) {
	f.change(method, func(x *fault) { x.err, x.lost = err, true })
}

// Delay lets every call of the method take d longer, or until its context ends, until Clear.
func (f *Faults) Delay(method string, d time.Duration) {
	f.change(method, func(x *fault) { x.delay = d })
}

// Clear ends all faults.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.faults)
}

func (f *Faults) change(method string, how func(*fault)) {
	if _, ok := reflect.TypeFor[queue.Queue]().MethodByName(method); !ok {
		panic(fmt.Sprintf("queuetest: no method %q to fail", method))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.faults[method]
	how(&x)
	f.faults[method] = x
}

// call makes a call of the method as its fault wants it.
func call[T any](ctx context.Context, f *Faults, method string, do func() (T, error)) (T, error) {
	f.mu.Lock()
	x := f.faults[method]
	f.mu.Unlock()
	var none T
	if x.delay > 0 {
		select {
		case <-time.After(x.delay):
		case <-ctx.Done():
			return none, ctx.Err()
		}
	}
	if x.err == nil {
		return do()
	}
	if x.lost {
		_, _ = do() // its answer is what gets lost
	}
	return none, x.err
}

// Enqueue implements queue.Intake.
func (f *Faults) Enqueue(ctx context.Context, s *queue.Submission) (queue.Receipt, error) {
	return call(ctx, f, "Enqueue", func() (queue.Receipt, error) { return f.Queue.Enqueue(ctx, s) })
}

// Due implements queue.Lanes.
func (f *Faults) Due(ctx context.Context, want queue.Want) (queue.Offer, error) {
	return call(ctx, f, "Due", func() (queue.Offer, error) { return f.Queue.Due(ctx, want) })
}

// Take implements queue.Lanes.
func (f *Faults) Take(ctx context.Context, leases []lockmgr.Lease, n int) ([]queue.Turn, error) {
	return call(ctx, f, "Take", func() ([]queue.Turn, error) { return f.Queue.Take(ctx, leases, n) })
}

// Settle implements queue.Lanes.
func (f *Faults) Settle(ctx context.Context, lease lockmgr.Lease, s queue.Settlement, n int) ([]queue.Delivery, error) {
	return call(ctx, f, "Settle", func() ([]queue.Delivery, error) { return f.Queue.Settle(ctx, lease, s, n) })
}

// Sweep implements queue.Lanes.
func (f *Faults) Sweep(ctx context.Context) (time.Duration, error) {
	return call(ctx, f, "Sweep", func() (time.Duration, error) { return f.Queue.Sweep(ctx) })
}

// Activity implements queue.Watching.
func (f *Faults) Activity(ctx context.Context, id string) (queue.ActivityStatus, error) {
	return call(ctx, f, "Activity", func() (queue.ActivityStatus, error) { return f.Queue.Activity(ctx, id) })
}

// Activities implements queue.Watching.
func (f *Faults) Activities(ctx context.Context, filter queue.ActivityFilter, p queue.Page) (queue.List[queue.ActivityStatus], error) {
	return call(ctx, f, "Activities", func() (queue.List[queue.ActivityStatus], error) { return f.Queue.Activities(ctx, filter, p) })
}

// Body implements queue.Watching.
func (f *Faults) Body(ctx context.Context, id string) ([]byte, error) {
	return call(ctx, f, "Body", func() ([]byte, error) { return f.Queue.Body(ctx, id) })
}

// Delivery implements queue.Watching.
func (f *Faults) Delivery(ctx context.Context, id string) (queue.DeliveryStatus, error) {
	return call(ctx, f, "Delivery", func() (queue.DeliveryStatus, error) { return f.Queue.Delivery(ctx, id) })
}

// HostDeliveries implements queue.Watching.
func (f *Faults) HostDeliveries(ctx context.Context, host string, p queue.Page) (queue.List[queue.DeliveryStatus], error) {
	return call(ctx, f, "HostDeliveries", func() (queue.List[queue.DeliveryStatus], error) { return f.Queue.HostDeliveries(ctx, host, p) })
}

// CancelMany implements queue.Operating.
func (f *Faults) CancelMany(ctx context.Context, which queue.CancelChoice) (queue.CancelCount, error) {
	return call(ctx, f, "CancelMany", func() (queue.CancelCount, error) { return f.Queue.CancelMany(ctx, which) })
}

// Feed implements queue.Feed.
func (f *Faults) Feed(ctx context.Context, filter queue.FeedFilter, p queue.Page) (queue.List[queue.Event], error) {
	return call(ctx, f, "Feed", func() (queue.List[queue.Event], error) { return f.Queue.Feed(ctx, filter, p) })
}

// FeedPosition implements queue.Feed.
func (f *Faults) FeedPosition(ctx context.Context, reader string) (string, error) {
	return call(ctx, f, "FeedPosition", func() (string, error) { return f.Queue.FeedPosition(ctx, reader) })
}

// FeedAction implements queue.Feed.
func (f *Faults) FeedAction(ctx context.Context, e queue.Event) error {
	_, err := call(ctx, f, "FeedAction", func() (struct{}, error) { return struct{}{}, f.Queue.FeedAction(ctx, e) })
	return err
}

// SetFeedPosition implements queue.Feed.
func (f *Faults) SetFeedPosition(ctx context.Context, reader, cursor string) error {
	_, err := call(ctx, f, "SetFeedPosition", func() (struct{}, error) { return struct{}{}, f.Queue.SetFeedPosition(ctx, reader, cursor) })
	return err
}

// AddMinute implements queue.Recent.
func (f *Faults) AddMinute(ctx context.Context, c queue.Counted) (time.Duration, error) {
	return call(ctx, f, "AddMinute", func() (time.Duration, error) { return f.Queue.AddMinute(ctx, c) })
}

// Minutes implements queue.Recent.
func (f *Faults) Minutes(ctx context.Context, n int) ([]queue.Minute, error) {
	return call(ctx, f, "Minutes", func() ([]queue.Minute, error) { return f.Queue.Minutes(ctx, n) })
}

// Deliveries implements queue.Watching.
func (f *Faults) Deliveries(ctx context.Context, id string, state queue.DeliveryState, p queue.Page) (queue.List[queue.DeliveryStatus], error) {
	return call(ctx, f, "Deliveries", func() (queue.List[queue.DeliveryStatus], error) { return f.Queue.Deliveries(ctx, id, state, p) })
}

// Cancel implements queue.Operating.
func (f *Faults) Cancel(ctx context.Context, id string) (queue.ActivityStatus, error) {
	return call(ctx, f, "Cancel", func() (queue.ActivityStatus, error) { return f.Queue.Cancel(ctx, id) })
}

// Host implements queue.Watching.
func (f *Faults) Host(ctx context.Context, host string) (queue.HostStatus, error) {
	return call(ctx, f, "Host", func() (queue.HostStatus, error) { return f.Queue.Host(ctx, host) })
}

// Hosts implements queue.Watching.
func (f *Faults) Hosts(ctx context.Context, filter queue.HostFilter, p queue.Page) (queue.List[queue.HostStatus], error) {
	return call(ctx, f, "Hosts", func() (queue.List[queue.HostStatus], error) { return f.Queue.Hosts(ctx, filter, p) })
}

// DeadLetters implements queue.Watching.
func (f *Faults) DeadLetters(ctx context.Context, filter queue.DeadLetterFilter, p queue.Page) (queue.List[queue.DeadLetter], error) {
	return call(ctx, f, "DeadLetters", func() (queue.List[queue.DeadLetter], error) { return f.Queue.DeadLetters(ctx, filter, p) })
}

// Stats implements queue.Watching.
func (f *Faults) Stats(ctx context.Context) (queue.Stats, error) {
	return call(ctx, f, "Stats", func() (queue.Stats, error) { return f.Queue.Stats(ctx) })
}

// Nodes implements queue.Fleet.
func (f *Faults) Nodes(ctx context.Context) (queue.FleetStatus, error) {
	return call(ctx, f, "Nodes", func() (queue.FleetStatus, error) { return f.Queue.Nodes(ctx) })
}

// Events implements queue.Watching.
func (f *Faults) Events(ctx context.Context) (<-chan queue.Event, error) {
	return call(ctx, f, "Events", func() (<-chan queue.Event, error) { return f.Queue.Events(ctx) })
}

// Act implements queue.Operating.
func (f *Faults) Act(ctx context.Context, host string, action queue.HostAction, order queue.Order) (queue.HostStatus, error) {
	return call(ctx, f, "Act", func() (queue.HostStatus, error) { return f.Queue.Act(ctx, host, action, order) })
}

// ResetHosts implements queue.Operating.
func (f *Faults) ResetHosts(ctx context.Context, state queue.HostState) (int, error) {
	return call(ctx, f, "ResetHosts", func() (int, error) { return f.Queue.ResetHosts(ctx, state) })
}

// RetryDead implements queue.Operating.
func (f *Faults) RetryDead(ctx context.Context, which queue.DeadLetterChoice, ttl time.Duration) (queue.DeadLetterCount, error) {
	return call(ctx, f, "RetryDead", func() (queue.DeadLetterCount, error) { return f.Queue.RetryDead(ctx, which, ttl) })
}

// DeleteDead implements queue.Operating.
func (f *Faults) DeleteDead(ctx context.Context, which queue.DeadLetterChoice) (queue.DeadLetterCount, error) {
	return call(ctx, f, "DeleteDead", func() (queue.DeadLetterCount, error) { return f.Queue.DeleteDead(ctx, which) })
}

// PutKey implements queue.Keys.
func (f *Faults) PutKey(ctx context.Context, k queue.Key) (bool, error) {
	return call(ctx, f, "PutKey", func() (bool, error) { return f.Queue.PutKey(ctx, k) })
}

// Key implements queue.Keys.
func (f *Faults) Key(ctx context.Context, id, pin string) (queue.Key, error) {
	return call(ctx, f, "Key", func() (queue.Key, error) { return f.Queue.Key(ctx, id, pin) })
}

// Keys implements queue.Keys.
func (f *Faults) Keys(ctx context.Context, kf queue.KeyFilter, p queue.Page) (queue.List[queue.Key], error) {
	return call(ctx, f, "Keys", func() (queue.List[queue.Key], error) { return f.Queue.Keys(ctx, kf, p) })
}

// DeleteKey implements queue.Keys.
func (f *Faults) DeleteKey(ctx context.Context, id string) error {
	_, err := call(ctx, f, "DeleteKey", func() (none struct{}, err error) { return none, f.Queue.DeleteKey(ctx, id) })
	return err
}

// RetireKey implements queue.Keys.
func (f *Faults) RetireKey(ctx context.Context, id string) error {
	_, err := call(ctx, f, "RetireKey", func() (none struct{}, err error) { return none, f.Queue.RetireKey(ctx, id) })
	return err
}

// ResealKeys implements queue.Keys.
func (f *Faults) ResealKeys(ctx context.Context, keys []queue.Reseal) (int, error) {
	return call(ctx, f, "ResealKeys", func() (int, error) { return f.Queue.ResealKeys(ctx, keys) })
}

// Export implements queue.Moving.
func (f *Faults) Export(ctx context.Context, next func(queue.Record) error) error {
	_, err := call(ctx, f, "Export", func() (none struct{}, err error) { return none, f.Queue.Export(ctx, next) })
	return err
}

// Import implements queue.Moving.
func (f *Faults) Import(ctx context.Context, records []queue.Record) (int, error) {
	return call(ctx, f, "Import", func() (int, error) { return f.Queue.Import(ctx, records) })
}

// Mark implements queue.Moving.
func (f *Faults) Mark(ctx context.Context) (queue.Mark, error) {
	return call(ctx, f, "Mark", func() (queue.Mark, error) { return f.Queue.Mark(ctx) })
}

// SetMark implements queue.Moving.
func (f *Faults) SetMark(ctx context.Context, text string) error {
	_, err := call(ctx, f, "SetMark", func() (none struct{}, err error) { return none, f.Queue.SetMark(ctx, text) })
	return err
}

// Ready implements queue.Queue.
func (f *Faults) Ready(ctx context.Context) error {
	_, err := call(ctx, f, "Ready", func() (none struct{}, err error) { return none, f.Queue.Ready(ctx) })
	return err
}
