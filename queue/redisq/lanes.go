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
)

// Due implements queue.Lanes. It asks all partitions for a share each at the same time, and then, one by one, those
// that may have more for what is still wanted. A partition that can't be asked holds up no other: see mark.
func (s *Store) Due(ctx context.Context, want queue.Want) (queue.Offer, error) {
	s.asleep.Store(math.MaxInt64) // while this is under way every wake counts
	shares := s.split(want)
	draws, err := s.drawAll(ctx, shares)
	if err != nil {
		return queue.Offer{}, fmt.Errorf("due: %w", err)
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
		if d, err := s.draw(ctx, s.parts[n], want); err == nil { // else the next call finds out
			d.addTo(&o, &want)
		}
	}
	s.asleep.Store(int64(time.Since(s.start) + o.Next))
	return o, nil
}

// drawAll asks each partition for its share. It gives an error only if none could be asked.
func (s *Store) drawAll(ctx context.Context, shares []queue.Want) ([]draw, error) {
	draws, errs := make([]draw, len(s.parts)), make([]error, len(s.parts))
	all := s.each(func(p *partition) error {
		draws[p.N], errs[p.N] = s.draw(ctx, p, shares[p.N])
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
	s.mark(errs)
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
	suspects int
	next     time.Duration // until another is due, at least 0; negative if none is known
	away     bool          // it could not be asked
}

// addTo adds lanes to an offer, and takes them off what is still wanted.
func (d draw) addTo(o *queue.Offer, want *queue.Want) {
	o.Hosts = append(o.Hosts, d.hosts...)
	want.Lanes -= len(d.hosts)
	want.Suspect -= d.suspects
	if d.next >= 0 {
		o.Next = min(o.Next, d.next)
	}
}

// draw asks a partition for lanes.
func (s *Store) draw(ctx context.Context, p *partition, want queue.Want) (d draw, err error) {
	a, err := s.array(ctx, dueScript, p, nil, []string{
		strconv.Itoa(want.Lanes), strconv.Itoa(max(0, want.Suspect)), millis(queue.OfferTTL), strconv.Itoa(rand.IntN(1 << 30)), //nolint:gosec // no secret
	})
	if err != nil {
		return d, err
	}
	next, err := a[0].AsInt64()
	if err != nil {
		return d, err
	}
	suspects, err := a[1].AsInt64()
	if err != nil {
		return d, err
	}
	d.next, d.suspects = time.Duration(next)*time.Millisecond, int(suspects)
	for _, m := range a[2:] {
		host, err := m.ToString()
		if err != nil {
			return d, err
		}
		d.hosts = append(d.hosts, host)
	}
	return d, nil
}
