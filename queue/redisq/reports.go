package redisq

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue/redisq/script"
)

// Where an activity's deliveries are in several partitions, its home partition writes to the feed that it is done. It knows that
// by reports. The script that ends the last delivery of a partition puts the report into `ended` there, and so does one
// that is about to make dead letters of the activity pending again (ended.lua). A node tells the report to the home
// (report.lua), and takes it from `ended`. A node that dies on the way leaves it there, for another one's Sweep.
//
// Reports of a partition on an activity are numbered, so an old one that comes late changes nothing, and one that comes
// twice neither. A dead letter is only made pending again once the home knows that the part is not ended, by the last report:
// so what the home takes for ended has ended.

// report is how one partition's part of an activity is.
type report struct {
	reportOf
	number int
	rest   string // packed, see standing in activity.lua
}

// reportOf says what a report is about.
type reportOf struct {
	p  *partition
	id string // the activity's, 16 bytes
}

const reportBytes = idBytes + 4 // of the name of a report

// name is what the report is called in `ended`.
func (r *report) name() string {
	return string(binary.BigEndian.AppendUint32([]byte(r.id), uint32(r.number))) // Redis counts them
}

// readReports reads what scripts of a partition return of parts of activities.
func (p *partition) readReports(all []rueidis.RedisMessage) ([]report, error) {
	reports := make([]report, len(all))
	for i, m := range all {
		r := &reports[i]
		r.p = p
		if err := scan(m, &r.id, &r.number, &r.rest); err != nil {
			return nil, err
		}
	}
	return reports, nil
}

// reportPause is how long a node waits for other reports that can be made together: those of the other partitions on the same
// activity, above all.
const reportPause = 50 * time.Millisecond

// dueReports are the reports that a node has to make to a partition. It is safe for concurrent use.
type dueReports struct {
	mu      sync.Mutex
	due     map[reportOf]report // guarded by mu
	running bool                // whether somebody makes reports, guarded by mu
}

// add adds reports, and returns whether the caller has to make them, as nobody does.
func (d *dueReports) add(reports []report) (mustRun bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.due == nil {
		d.due = map[reportOf]report{}
	}
	for _, r := range reports {
		if d.due[r.reportOf].number < r.number {
			d.due[r.reportOf] = r
		}
	}
	mustRun = !d.running && len(d.due) > 0
	d.running = d.running || mustRun
	return mustRun
}

// take empties the list. Where it was empty, its caller has ended.
func (d *dueReports) take() []report {
	d.mu.Lock()
	defer d.mu.Unlock()
	reports := slices.Collect(maps.Values(d.due))
	clear(d.due)
	d.running = len(reports) > 0
	return reports
}

// noteFeed notes what a script of a partition returned of the feed: how many entries it wrote, and the reports that are due.
func (s *releaser) noteFeed(p *partition, entries int, due []rueidis.RedisMessage) error {
	s.fed(entries)
	reports, err := p.readReports(due)
	if err == nil {
		s.reportSoon(reports)
	}
	return err
}

// reportSoon makes reports. The caller does not wait for it.
func (s *releaser) reportSoon(reports []report) {
	for home, some := range s.byHome(reports) {
		if due := home.reports; due.add(some) {
			s.reporting.Go(func() { s.makeDue(due) })
		}
	}
}

// byHome sorts reports by the homes of the activities.
func (s *releaser) byHome(reports []report) map[*partition][]report {
	all := map[*partition][]report{}
	for _, r := range reports {
		home := s.partitionOf(uuid.UUID([]byte(r.id)).String())
		all[home] = append(all[home], r)
	}
	return all
}

// makeDue makes the reports of a list, until there are none.
func (s *releaser) makeDue(due *dueReports) {
	ctx := context.Background() // each call has a deadline
	for {
		_ = pause(ctx, reportPause)
		reports := due.take()
		if len(reports) == 0 {
			return
		}
		if err := s.makeReports(ctx, reports); err != nil {
			s.logLimited("report", fmt.Errorf("report what has ended: %w", err))
			s.sweepIn(stageTTL)
		}
	}
}

// report makes the reports that are due in a partition, given by their names, and returns how many.
func (s *releaser) report(ctx context.Context, p *partition, names []string) (did int, err error) {
	for some := range slices.Chunk(names, laneChunk) {
		reports, err := p.standing(ctx, some, false)
		if err == nil {
			err = s.makeReports(ctx, reports)
		}
		if err != nil {
			return did, err
		}
		did += len(reports)
	}
	return did, nil
}

// standing returns how the parts of activities are of which reports are due, given by the names of these; or of all, given by
// their IDs, before dead letters of them are made pending again.
func (p *partition) standing(ctx context.Context, names []string, reopens bool) ([]report, error) {
	ids := make([]string, len(names))
	for i, name := range names {
		ids[i] = name[:idBytes]
	}
	var all []rueidis.RedisMessage
	if err := p.run(ctx, script.Ended, p.activities(ids), append([]string{flag(reopens)}, names...), &all); err != nil {
		return nil, err
	}
	return p.readReports(all)
}

// makeReports tells reports to the homes, and forgets that they were due.
func (s *releaser) makeReports(ctx context.Context, reports []report) error {
	var errs []error
	for some := range slices.Chunk(reports, laneChunk) {
		told, err := s.tellHomes(ctx, some)
		errs = append(errs, err, s.forgetReports(ctx, told))
	}
	return errors.Join(errs...)
}

// tellHomes tells the homes of activities how they are in other partitions, and returns the reports to those that it could
// tell.
func (s *releaser) tellHomes(ctx context.Context, reports []report) (told []report, err error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for home, some := range s.byHome(reports) {
		wg.Go(func() {
			var ids, args []string
			for _, r := range some {
				ids = append(ids, r.id)
				args = append(args, strconv.Itoa(r.p.N), strconv.Itoa(r.number), r.rest)
			}
			fed, err := home.number(ctx, script.Report, home.activities(ids), args)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return
			}
			s.fed(fed)
			told = append(told, some...)
		})
	}
	wg.Wait()
	return told, errors.Join(errs...)
}

// forgetReports takes out that reports are due.
func (s *releaser) forgetReports(ctx context.Context, reports []report) error {
	names := map[*partition][]string{}
	for _, r := range reports {
		names[r.p] = append(names[r.p], r.name())
	}
	var commands []rueidis.Completed
	for p, some := range names {
		commands = append(commands, s.client.B().Zrem().Key(p.Key(rediskeys.Ended)).Member(some...).Build())
	}
	_, err := s.do(ctx, commands...)
	return err
}

// activities are the keys of activities, given by the bytes of their IDs.
func (p *partition) activities(ids []string) (keys []string) {
	for _, id := range ids {
		keys = p.activity(keys, uuid.UUID([]byte(id)).String())
	}
	return keys
}
