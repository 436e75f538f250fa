package redisq

import (
	"context"
	"slices"
	"strconv"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue/redisq/script"
)

const (
	buryChunk = 128 // deliveries that one script buries
	buryMost  = 2048
)

// shed makes dead letters of the oldest of what Sweep has to drop from a lane: blocked, unavailable, or too full. It
// returns how many were chosen and how many of them are dead now.
func (s *sweeper) shed(ctx context.Context, p *partition, host string) (chosen, buried int, err error) {
	const parts = 4 // of each delivery: where it is, number, activity, text
	var choice []string
	var fed int
	var due []rueidis.RedisMessage
	if err := p.run(ctx, script.Choose, p.lane(nil, host), []string{host, strconv.Itoa(buryChunk)}, &choice); err != nil {
		return 0, 0, err
	}
	keys := p.lane(nil, host)
	args := []string{host, choice[0]}
	places := map[string]int{}
	for d := range slices.Chunk(choice[1:], parts) {
		id := d[2]
		if _, known := places[id]; !known {
			places[id] = len(places)
			keys = p.activity(keys, uuid.UUID([]byte(id)).String())
		}
		args = append(args, strconv.Itoa(places[id]), d[0], d[1], d[3])
	}
	if err := p.run(ctx, script.Bury, keys, args, &buried, &fed, &due); err != nil {
		return 0, 0, err
	}
	return len(choice) / parts, buried, s.noteFeed(p, fed, due)
}

// relieve gives up what lanes hold in excess, and sees which hosts have waited as they asked.
func (s *sweeper) relieve(ctx context.Context, p *partition, hosts []string) (did int, err error) {
	for _, host := range hosts {
		for did < buryMost {
			_, n, err := s.shed(ctx, p, host)
			if p.brokenLane(err, []string{host}) >= 0 {
				s.logLimited(host, err)
				break
			}
			if err != nil {
				return did, err
			}
			did += n
			if n < buryChunk {
				break
			}
		}
	}
	return did, nil
}
