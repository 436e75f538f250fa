package redisq

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/internal/telemetry"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// conn is the connection to Redis, with the partitions there.
type conn struct {
	opts       Options
	log        *slog.Logger
	logSampler telemetry.Sampler // for lines that would be logged over and over
	client     rueidis.Client
	keys       rediskeys.Scheme
	parts      []*partition
	joints     map[script.Name]*batcher // where one script may work in several partitions, those of inSeveral
	agenda     *agenda
	activities *cache[*cachedActivity] // by their IDs
	parsed     *cache[queue.Key]       // by how they are stored, so that none can be an old one
	foreign    atomic.Pointer[error]   // why nothing may be written: see confirm
	tag        atomic.Pointer[string]  // of the store, see feedCursor
	start      time.Time
	work       errands // all goroutines of the store but those that release
}

func newConn(client rueidis.Client, o Options) *conn {
	return &conn{
		opts: o, log: o.Log, client: client, keys: rediskeys.Scheme{Prefix: o.Prefix},
		joints:     map[script.Name]*batcher{},
		activities: newCache[*cachedActivity](activityBytes), parsed: newCache[queue.Key](keyBytes), start: time.Now(),
	}
}

// logLimited logs that something fails over and over: the first time, and once in a while.
func (s *conn) logLimited(what string, err error) {
	if before, open := s.logSampler.Allow(what); open {
		s.log.Error("store.failing", "error", err, "lines_suppressed", before)
	}
}

// divide makes the partitions. Where one script may work in several, these share what is wanted together.
func (s *conn) divide(partitions int, joint bool) {
	s.keys.Partitions, s.keys.Joint = partitions, joint
	s.agenda = newAgenda(partitions)
	for n := range partitions {
		p := &partition{conn: s, Partition: s.keys.Partition(n)}
		p.keyReads = &batcher{work: &s.work, several: true, do: p.readKeys}
		if joint && n > 0 {
			p.enqueues, p.settles = s.parts[0].enqueues, s.parts[0].settles
			p.posts = s.parts[0].posts
			p.reports = s.parts[0].reports
		} else {
			p.enqueues, p.settles = s.batcherOf(script.Enqueue, true), s.batcherOf(script.Settle, true)
			p.posts = s.batcherOf(script.Post, true)
			p.posts.most = postCalls
			p.reports = &dueReports{}
		}
		s.parts = append(s.parts, p)
	}
	if joint && partitions > 1 {
		for _, name := range inSeveral {
			s.joints[name] = s.batcherOf(name, false)
		}
	}
}

// inSeveral are scripts that are wanted of many partitions at a time and do little in each.
var inSeveral = []script.Name{script.Due, script.Stage, script.Release, script.Report, script.Sweep, script.Names, script.TryCommands}
