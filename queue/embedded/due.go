package embedded

import (
	"context"
	"time"

	"github.com/postrider/postrider/queue"
)

// Due implements queue.Lanes.
func (s *Store) Due(_ context.Context, want queue.Want) (queue.Offer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks = true
	s.choosy = want.Choosy
	now := s.clock.now()
	s.index.ripen(now)
	var o queue.Offer
	for len(o.Hosts) < want.Lanes {
		l := s.index.draw(want.Suspect > 0)
		if l == nil {
			break
		}
		if l.class() == suspect {
			want.Suspect--
			o.Suspects = append(o.Suspects, l.host)
		}
		l.hidden = now + queue.OfferTTL.Milliseconds()
		s.index.place(l, now)
		o.Hosts = append(o.Hosts, l.host)
	}
	o.Next = s.opts.Idle
	if first, found := s.index.future.Min(); found {
		o.Next = min(o.Next, max(0, time.Duration(first.at-now)*time.Millisecond))
	}
	return o, nil
}
