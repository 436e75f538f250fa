package redisq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// Due implements queue.Lanes. It asks those partitions of this node's share that may have a lane due, as long as lanes are
// wanted: so the leases, takes and settlements of lanes that are worked on at a time are in few partitions, and go together.
func (s *Store) Due(ctx context.Context, want queue.Want) (_ queue.Offer, err error) {
	defer wrap(&err, "due")
	if s.looks.CompareAndSwap(false, true) {
		s.begin()
	}
	s.asleep.Store(math.MaxInt64) // while this is under way every wake counts
	s.idle.Store(math.MaxInt64)
	s.choosy.Store(want.Choosy)
	l := &look{Store: s, want: want, offer: queue.Offer{Next: queue.MaxIdle}, failed: map[int]error{}}
	l.ask(ctx)
	if err := l.end(ctx); err != nil {
		return queue.Offer{}, err
	}
	l.askAgain(ctx)
	now := time.Since(s.start)
	l.offer.Next = min(l.offer.Next, max(0, s.agenda.next(s.company.served())-now))
	s.asleep.Store(int64(now + l.offer.Next))
	bringForward(&s.idle, now+l.offer.Next)
	return l.offer, nil
}

// look is one Due.
type look struct {
	*Store
	want   queue.Want // what is still wanted
	offer  queue.Offer
	fine   []int         // partitions that could be asked
	failed map[int]error // by those that could not, why
	more   []int         // those of fine that may have more
}

const (
	lookLanes = 16          // as many lanes are wanted of a partition, where many are wanted
	lookWiden = 4           // as many times more partitions are asked next, where those before had too few
	awayPause = time.Second // when a partition that can't be worked with is asked again
)

// ask asks some partitions at a time. Once one can't be asked, the rest is asked at the same time, so that all such hold up
// the others once: from then on they are asked last.
func (l *look) ask(ctx context.Context) {
	left := l.partitions()
	width := max(1, l.want.Lanes/lookLanes)
	for len(left) > 0 && (l.want.Lanes > 0 || len(l.fine)+len(l.failed) == 0) {
		if l.want.Lanes == 0 || len(l.failed) > 0 || l.parts[left[0]].health() != nil {
			width = len(left)
		}
		group := left[:min(width, len(left))]
		left = left[len(group):]
		width *= lookWiden
		l.askAll(ctx, group)
	}
	for _, n := range left {
		l.agenda.put(n, 0)
	}
	if len(left) > 0 {
		l.agenda.begin(left[0])
	}
}

// partitions returns those that are to be asked, in this order. Where no lanes are wanted, it is only to be seen whether Redis
// is there.
func (l *look) partitions() []int {
	now := time.Since(l.start)
	if l.want.Lanes == 0 {
		now = never
	}
	all := l.agenda.due(now, l.company.served(), l.want.Suspect > 0)
	away := func(n int) int {
		if l.parts[n].health() != nil {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(all, func(a, b int) int { return cmp.Compare(away(a), away(b)) })
	return all
}

// askAll asks partitions for a share each, all at the same time.
func (l *look) askAll(ctx context.Context, group []int) {
	shares := shareOut(l.want, len(group))
	draws, errs := make([]draw, len(group)), make([]error, len(group))
	var wg sync.WaitGroup
	for i, n := range group {
		wg.Go(func() { draws[i], errs[i] = l.parts[n].draw(ctx, shares[i]) })
	}
	wg.Wait()
	for i, n := range group {
		if errs[i] != nil {
			l.failed[n] = errs[i]
			continue
		}
		l.fine = append(l.fine, n)
		l.add(n, draws[i], shares[i])
	}
}

// add adds to the offer what a partition gave of its share.
func (l *look) add(n int, d draw, share queue.Want) {
	d.addTo(&l.offer, &l.want)
	suspects := d.suspects >= share.Suspect
	if suspects {
		l.agenda.putSuspects(n)
	}
	switch {
	case len(d.hosts) >= share.Lanes || suspects && l.want.Suspect > 0:
		l.more = append(l.more, n)
	case d.next >= 0:
		l.agenda.put(n, time.Since(l.start)+d.next)
	default:
		l.agenda.put(n, time.Since(l.start)+queue.MaxIdle)
	}
}

// end notes which partitions can be worked with, unless the caller has given up. It returns an error if none could be asked.
func (l *look) end(ctx context.Context) error {
	again := time.Since(l.start) + awayPause
	if len(l.fine) == 0 {
		again = 0
	}
	for n := range l.failed {
		l.agenda.put(n, again)
	}
	if len(l.fine) == 0 {
		return errors.Join(slices.Collect(maps.Values(l.failed))...)
	}
	if ctx.Err() == nil {
		l.setHealth(l.fine, l.failed)
	}
	return nil
}

// askAgain asks the partitions that may have more for what is still wanted, as long as that lasts: one lane each at least, and one
// suspect while such are wanted. So each has given something then, or has nothing more.
func (l *look) askAgain(ctx context.Context) {
	clear(l.failed)
	for l.want.Lanes > 0 && len(l.more) > 0 && len(l.parts) > 1 {
		more := l.more
		n := min(l.want.Lanes, len(more))
		if l.want.Suspect > 0 {
			n = min(n, l.want.Suspect)
		}
		l.more = slices.Clone(more[n:])
		l.askAll(ctx, more[:n])
	}
	for n := range l.failed {
		l.more = append(l.more, n) // the next call finds out
	}
	for _, n := range l.more {
		l.agenda.put(n, 0)
	}
}

// shareOut shares out what is wanted among n partitions.
func shareOut(want queue.Want, n int) []queue.Want {
	shares := make([]queue.Want, n)
	for i, at := range rand.Perm(n) {
		shares[at] = queue.Want{Lanes: (want.Lanes + i) / n, Suspect: (want.Suspect + n - 1 - i) / n}
	}
	return shares
}

// draw is the lanes that one partition offers.
type draw struct {
	hosts    []string
	suspects int           // how many of them are suspect: the last ones
	next     time.Duration // until another is due, at least 0; negative if none is known
}

// addTo adds lanes to an offer, and takes them off what is still wanted.
func (d draw) addTo(o *queue.Offer, want *queue.Want) {
	o.Hosts = append(o.Hosts, d.hosts...)
	o.Suspects = append(o.Suspects, d.hosts[len(d.hosts)-d.suspects:]...)
	want.Lanes -= len(d.hosts)
	want.Suspect -= d.suspects
	if d.next >= 0 {
		o.Next = min(o.Next, d.next)
	}
}

// draw asks a partition for lanes.
func (p *partition) draw(ctx context.Context, want queue.Want) (d draw, err error) {
	var next, lag int64
	err = p.run(ctx, script.Due, nil, []string{
		strconv.Itoa(want.Lanes), strconv.Itoa(max(0, want.Suspect)), millis(queue.OfferTTL), strconv.Itoa(rand.IntN(1 << 30)),
	}, &next, &d.suspects, &lag, &d.hosts)
	if err != nil {
		return d, err
	}
	p.noteLag(lag)
	d.next = time.Duration(next) * time.Millisecond
	return d, nil
}

// setHealth notes which partitions could be worked with while others could, and says so where that changes.
func (s *conn) setHealth(fine []int, failed map[int]error) {
	var away, back []int
	for n, err := range failed {
		if s.parts[n].health() == nil {
			away = append(away, n)
		}
		s.parts[n].away.Store(&err)
	}
	for _, n := range fine {
		if s.parts[n].health() != nil {
			back = append(back, n)
		}
		s.parts[n].away.Store(nil)
	}
	if len(away) > 0 {
		s.log.Error("store.partitions_away", "partitions", away, "error", failed[away[0]])
	}
	if len(back) > 0 {
		s.log.Info("store.partitions_back", "partitions", back)
	}
}

// health returns why a partition cannot be worked with, or nil.
func (p *partition) health() error {
	err := p.away.Load()
	if err == nil || *err == nil {
		return nil
	}
	return fmt.Errorf("partition %d: %w", p.N, *err)
}
