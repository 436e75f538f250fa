package redisq

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

const (
	resetAtOnce = 16 // hosts
	resetTries  = 100
)

// ResetHosts implements queue.Operating.
func (s *Store) ResetHosts(ctx context.Context, state queue.HostState) (reset int, err error) {
	defer wrap(&err, "reset hosts")
	for p := (queue.Page{Limit: chunk}); ; {
		list, err := s.Hosts(ctx, queue.HostFilter{State: state}, p)
		if err != nil {
			return reset, err
		}
		group, working := errgroup.WithContext(ctx)
		group.SetLimit(resetAtOnce)
		for _, h := range list.Items {
			group.Go(func() error { return s.reset(working, h.Host, queue.Caller(ctx), "") })
		}
		if err := group.Wait(); err != nil {
			return reset, err
		}
		reset += len(list.Items)
		if p.Cursor = list.Next; p.Cursor == "" {
			return reset, nil
		}
	}
}

var errContended = errors.New("the host's record changes all the time")

// reset writes the record of a host that never failed. Records mean nothing to scripts, so it is made here, and written
// if the host's is still the one that was read. said is the entry of the feed, "" if there is to be none.
func (s *Store) reset(ctx context.Context, host, by, said string) error {
	p := s.partitionOf(host)
	for range resetTries {
		var text, failure, known string
		if err := s.read(ctx, s.client.B().Hmget().Key(p.Of(rediskeys.Lane, host)).Field("r", "e").Build(), &text, &failure); err != nil {
			return err
		}
		if text != "" {
			known = joinRecord(text, failure)
		}
		was, err := record(known, 0)
		if err != nil {
			was = queue.HostRecord{} // it is damaged, and about to be replaced
		}
		is := was.Forgiven()
		record := shrinkRecord(&is)
		args := []string{host, known, record, strconv.Itoa(recordFlags(&is)), by, flag(record != shrinkRecord(&was)), said}
		fed, err := p.number(ctx, script.Reset, p.lane(nil, host), args)
		if err != nil {
			return err
		}
		if fed >= 0 {
			s.fed(fed)
			return nil
		}
	}
	return fmt.Errorf("%w: %w", queue.ErrBusy, errContended)
}
