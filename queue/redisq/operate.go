package redisq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

const (
	buryChunk  = 128 // deliveries that one script buries
	buryMost   = 2048
	resetTries = 100
)

var errContended = errors.New("the host's record changes all the time")

// Act implements queue.Operating.
func (s *Store) Act(ctx context.Context, host string, action queue.HostAction) (queue.HostStatus, error) {
	if err := s.act(ctx, host, action); err != nil {
		return queue.HostStatus{}, fmt.Errorf("%s %s: %w", action, host, err)
	}
	return s.Host(ctx, host)
}

func (s *Store) act(ctx context.Context, host string, action queue.HostAction) error {
	if !slices.Contains(queue.HostActions, action) {
		return errors.New("no such action")
	}
	p := s.partitionOf(host)
	if action == queue.Reset {
		return s.reset(ctx, p, host)
	}
	state, err := s.text(ctx, actScript, p, p.lane(nil, host), []string{host, string(action)})
	if err != nil {
		return err
	}
	s.tellState(host, state)
	if action == queue.Pause || action == queue.Block {
		s.tellStop(ctx)
	}
	for action == queue.Block && err == nil { // what this leaves if it is cut short, Sweep does
		var chosen int
		if chosen, _, err = s.giveUp(ctx, p, host); chosen == 0 {
			break
		}
	}
	return err
}

// reset writes the record of a host that never failed. Records mean nothing to scripts, so it is made here, and written
// if the host's is still the one that was read.
func (s *Store) reset(ctx context.Context, p *partition, host string) error {
	for range resetTries {
		answers, err := s.do(ctx, s.client.B().Hmget().Key(p.Of("h", host)).Field("r", "e").Build())
		if err != nil {
			return err
		}
		f, err := fields(answers[0], 2)
		if err != nil {
			return err
		}
		known := ""
		if f[0].text != "" {
			known = joinRecord(f[0].text, f[1].text)
		}
		was, err := record(known, 0)
		if err != nil {
			return err
		}
		is := was.Forgiven()
		text, err := shrinkRecord(&is)
		if err != nil {
			return err
		}
		state, err := s.text(ctx, resetScript, p, p.lane(nil, host), []string{host, known, text, strconv.Itoa(recordFlags(&is))})
		if err != nil {
			return err
		}
		if state != "again" {
			s.tellState(host, state)
			return nil
		}
	}
	return fmt.Errorf("%w: %w", queue.ErrBusy, errContended)
}

// giveUp makes dead letters of the oldest of what Sweep shall give up of a lane: blocked, unavailable, or too full. It
// returns how many were chosen and how many of them are dead now.
func (s *Store) giveUp(ctx context.Context, p *partition, host string) (chosen, buried int, err error) {
	const parts = 4 // of each delivery: where it is, number, activity, text
	choice, err := s.texts(ctx, chooseScript, p, p.lane(nil, host), []string{host, strconv.Itoa(buryChunk)})
	if err != nil {
		return 0, 0, err
	}
	keys, args, places := p.lane(nil, host), []string{host, choice[0]}, map[string]int{}
	for d := range slices.Chunk(choice[1:], parts) {
		id := d[2]
		if _, known := places[id]; !known {
			places[id] = len(places)
			keys = p.activity(keys, uuid.UUID([]byte(id)).String())
		}
		args = append(args, strconv.Itoa(places[id]), d[0], d[1], d[3])
	}
	names, err := s.texts(ctx, buryScript, p, keys, args)
	if err != nil {
		return 0, 0, err
	}
	s.tellDead(ctx, p, names)
	return len(choice) / parts, len(names), nil
}

// relieve gives up what lanes hold in excess.
func (s *Store) relieve(ctx context.Context, p *partition, hosts []string) (did int, err error) {
	for _, host := range hosts {
		for did < buryMost {
			_, n, err := s.giveUp(ctx, p, host)
			if p.brokenLane(err, []string{host}) >= 0 {
				s.tell(host, err)
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
