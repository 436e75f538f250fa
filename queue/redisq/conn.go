package redisq

import (
	"log/slog"
	"sync"
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
	agenda     *agenda
	activities *cache[*cachedActivity] // by their IDs
	parsed     *cache[queue.Key]       // by how they are stored, so that none can be an old one
	foreign    atomic.Pointer[error]   // why nothing may be written: see confirm
	tag        atomic.Pointer[string]  // of the store, see feedCursor
	start      time.Time
	work       sync.WaitGroup // all goroutines of the store but those that release
}

func newConn(client rueidis.Client, o Options) *conn {
	return &conn{
		opts: o, log: o.Log, client: client, keys: rediskeys.Scheme{Prefix: o.Prefix},
		activities: newCache[*cachedActivity](activityBytes), parsed: newCache[queue.Key](keyBytes), start: time.Now(),
	}
}

// logLimited logs that something fails over and over: the first time, and once in a while.
func (s *conn) logLimited(what string, err error) {
	if before, open := s.logSampler.Allow(what); open {
		s.log.Error("store.failing", "error", err, "lines_suppressed", before)
	}
}

// divide makes the partitions.
func (s *conn) divide(partitions int) {
	s.keys.Partitions, s.agenda = partitions, newAgenda(partitions)
	for n := range partitions {
		p := &partition{conn: s, Partition: s.keys.Partition(n)}
		p.enqueues = p.scripted(script.Enqueue)
		p.settles = p.scripted(script.Settle)
		p.keyReads = &batcher{p: p, do: p.readKeys}
		s.parts = append(s.parts, p)
	}
}
