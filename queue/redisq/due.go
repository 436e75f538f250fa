package redisq

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// Due implements queue.Lanes. It asks all partitions for a share each at the same time, and then, one by one, those
// that may have more for what is still wanted. A partition that can't be asked holds up no other: see setHealth.
func (s *Store) Due(ctx context.Context, want queue.Want) (_ queue.Offer, err error) {
	defer wrap(&err, "due")
	s.asleep.Store(math.MaxInt64) // while this is under way every wake counts
	shares := s.split(want)
	draws, err := s.drawAll(ctx, shares)
	if err != nil {
		return queue.Offer{}, err
	}
	o := queue.Offer{Next: queue.MaxIdle}
	for _, d := range draws {
		d.addTo(&o, &want)
	}
	for _, n := range rand.Perm(len(s.parts)) {
		if want.Lanes == 0 || len(s.parts) == 1 {
			break
		}
		if draws[n].away || len(draws[n].hosts) < shares[n].Lanes && draws[n].suspects < shares[n].Suspect {
			continue // it has no more
		}
		if d, err := s.parts[n].draw(ctx, want); err == nil { // else the next call finds out
			d.addTo(&o, &want)
		}
	}
	s.asleep.Store(int64(time.Since(s.start) + o.Next))
	return o, nil
}

// drawAll asks each partition for its share. It gives an error only if none could be asked.
func (s *Store) drawAll(ctx context.Context, shares []queue.Want) ([]draw, error) {
	draws := make([]draw, len(s.parts))
	errs := make([]error, len(s.parts))
	all := s.forEach(func(p *partition) error {
		draws[p.N], errs[p.N] = p.draw(ctx, shares[p.N])
		return errs[p.N]
	})
	if !slices.Contains(errs, nil) {
		return nil, all
	}
	for n, err := range errs {
		if err != nil {
			draws[n] = draw{next: awayPause, away: true}
		}
	}
	s.setHealth(errs)
	return draws, nil
}

// awayPause is when a partition that can't be worked with is asked again.
const awayPause = time.Second

// split shares out what is wanted.
func (s *Store) split(want queue.Want) []queue.Want {
	n := len(s.parts)
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
	away     bool          // it could not be asked
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
		strconv.Itoa(want.Lanes), strconv.Itoa(max(0, want.Suspect)), millis(queue.OfferTTL), strconv.Itoa(rand.IntN(1 << 30)), //nolint:gosec // no secret
	}, &next, &d.suspects, &lag, &d.hosts)
	if err != nil {
		return d, err
	}
	p.noteLag(lag)
	d.next = time.Duration(next) * time.Millisecond
	return d, nil
}

// setHealth notes which partitions could be worked with while others could, and says so where that changes: errs are by
// partition.
func (s *conn) setHealth(errs []error) {
	var away, back []int
	for n, p := range s.parts {
		switch failed := p.health() != nil; {
		case errs[n] != nil && !failed:
			away = append(away, n)
		case errs[n] == nil && failed:
			back = append(back, n)
		}
		p.away.Store(&errs[n])
	}
	if len(away) > 0 {
		s.log.Error("store.partitions_away", "partitions", away, "error", errs[away[0]])
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
