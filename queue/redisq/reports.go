package redisq

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue/redisq/script"
)

// Where an activity's deliveries are in several partitions, its home partition writes to the feed that it is done. It knows that
// by reports. The script that ends the last delivery of a partition puts the activity into `ended` there, and so does one
// that is about to make dead letters of it pending again. A node reads how the activity's part is there (ended.lua), tells
// that to the home (report.lua), and takes it from `ended` (reported.lua). A node that dies on the way leaves it there, for
// another one's Sweep.
//
// Reports of a partition on an activity are numbered, so an old one that comes late changes nothing, and one that comes
// twice neither. A dead letter is only made pending again once the home knows that the part is not ended, by the last report:
// so what the home takes for ended has ended.

// report is how one partition's part of an activity is.
type report struct {
	id     string // the activity's, 16 bytes
	number int
	rest   []int64 // what standing returns behind that (activity.lua); nil if it has yet to be read
}

const reportParts = 8 // of rest

// readReports reads what scripts return of parts of activities.
func readReports(all []rueidis.RedisMessage) ([]report, error) {
	reports := make([]report, len(all))
	for i, m := range all {
		r := &reports[i]
		r.rest = make([]int64, reportParts)
		into := []any{&r.id, &r.number}
		for j := range r.rest {
			into = append(into, &r.rest[j])
		}
		if err := scan(m, into...); err != nil {
			return nil, err
		}
	}
	return reports, nil
}

// unread are the reports on activities that have yet to be read, as far as any are due.
func unread(ids []string) []report {
	reports := make([]report, len(ids))
	for i, id := range ids {
		reports[i].id = id
	}
	return reports
}

// reportPause is how long a node waits for other reports that can be made together.
const reportPause = 50 * time.Millisecond

// dueReports are the reports that a node has to make on activities of a partition. It is safe for concurrent use.
type dueReports struct {
	mu      sync.Mutex
	due     map[string]report // by ID, guarded by mu
	running bool              // whether somebody makes reports, guarded by mu
}

// add adds reports, and returns whether the caller has to make them, as nobody does.
func (d *dueReports) add(reports []report) (mustRun bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.due == nil {
		d.due = map[string]report{}
	}
	for _, r := range reports {
		if before, known := d.due[r.id]; !known || r.rest == nil || before.rest != nil && before.number < r.number {
			d.due[r.id] = r
		}
	}
	mustRun = !d.running && len(d.due) > 0
	d.running = d.running || mustRun
	return mustRun
}

// take empties the list. Where it was empty, its caller has ended.
func (d *dueReports) take() (reports []report, unread []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, r := range d.due {
		if r.rest == nil {
			unread = append(unread, id)
		} else {
			reports = append(reports, r)
		}
	}
	clear(d.due)
	d.running = len(reports)+len(unread) > 0
	return reports, unread
}

// reportSoon makes reports on activities of a partition. The caller does not wait for it.
func (s *releaser) reportSoon(p *partition, reports []report) {
	if len(s.parts) == 1 || !p.reports.add(reports) {
		return
	}
	s.reporting.Go(func() {
		ctx := context.Background() // each call has a deadline
		for {
			_ = pause(ctx, reportPause)
			reports, ids := p.reports.take()
			if len(reports)+len(ids) == 0 {
				return
			}
			err := s.makeReports(ctx, p, reports)
			if err == nil {
				_, err = s.report(ctx, p, ids)
			}
			if err != nil {
				s.logLimited("report", fmt.Errorf("report what has ended: %w", err))
				s.sweepIn(stageTTL)
			}
		}
	})
}

// report makes reports on activities of a partition, as far as any are due, and returns how many.
func (s *releaser) report(ctx context.Context, p *partition, ids []string) (did int, err error) {
	for some := range slices.Chunk(ids, laneChunk) {
		reports, err := p.standing(ctx, some, false)
		if err == nil {
			err = s.makeReports(ctx, p, reports)
		}
		if err != nil {
			return did, err
		}
		did += len(reports)
	}
	return did, nil
}

// standing returns how the parts of activities are of which reports are due; or of all, before dead letters of them are made
// pending again.
func (p *partition) standing(ctx context.Context, ids []string, reopens bool) ([]report, error) {
	var all []rueidis.RedisMessage
	if err := p.run(ctx, script.Ended, p.activities(ids), append([]string{flag(reopens)}, ids...), &all); err != nil {
		return nil, err
	}
	return readReports(all)
}

// makeReports makes reports of a partition, and notes there that they were made.
func (s *releaser) makeReports(ctx context.Context, p *partition, reports []report) error {
	for some := range slices.Chunk(reports, laneChunk) {
		if err := s.tellHomes(ctx, p, some); err != nil {
			return err
		}
		if err := p.reported(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

// tellHomes tells the homes of activities how they are in a partition.
func (s *releaser) tellHomes(ctx context.Context, p *partition, reports []report) error {
	byHome := map[*partition][]report{}
	for _, r := range reports {
		home := s.partitionOf(uuid.UUID([]byte(r.id)).String())
		byHome[home] = append(byHome[home], r)
	}
	for home, some := range byHome {
		var ids, args []string
		for _, r := range some {
			ids = append(ids, r.id)
			args = append(args, strconv.Itoa(p.N), strconv.Itoa(r.number))
			for _, n := range r.rest {
				args = append(args, strconv.FormatInt(n, 10))
			}
		}
		fed, err := home.number(ctx, script.Report, home.activities(ids), args)
		if err != nil {
			return err
		}
		s.fed(fed)
	}
	return nil
}

// reported notes in a partition that reports were made.
func (p *partition) reported(ctx context.Context, reports []report) error {
	var ids, args []string
	for _, r := range reports {
		ids = append(ids, r.id)
		args = append(args, r.id, strconv.Itoa(r.number))
	}
	return p.run(ctx, script.Reported, p.activities(ids), args)
}

// activities are the keys of activities, given by the bytes of their IDs.
func (p *partition) activities(ids []string) (keys []string) {
	for _, id := range ids {
		keys = p.activity(keys, uuid.UUID([]byte(id)).String())
	}
	return keys
}
