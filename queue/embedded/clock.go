package embedded

import (
	"log/slog"
	"sync/atomic"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// clock is the time of a store. All times that are stored, and all that is compared with them, are by it; the wall clock is
// only for showing them. It begins with the wall clock, and then:
//
//   - While the store is open it follows the monotonic clock, so that no jump of the wall clock moves it. (The monotonic
//     clock stands still while the machine sleeps.)
//   - While the store is closed it follows the wall clock, if that is between a minute back and ten minutes ahead at the next
//     start. Otherwise a long stop looks like a jump, and the clock goes on from where it was: a long stop is a pause.
//
// So a jump makes nothing due, keeps nothing from being due, and ends no lease, TTL or retention: each keeps what was left of
// it. Only the lag changes, which is how far the store's clock is behind the wall clock: every time that is shown is moved by
// it, and nothing stored is rewritten. The log has a line. Backups and moved stores may be opened at any time, too.
//
// Beside the lag the database has the time, as of the last minute in which anything was written, or of the last five.
type clock struct {
	wall   func() time.Time
	log    *slog.Logger
	opened time.Time    // by the monotonic clock
	began  int64        // what the time was then, in ms since the Unix epoch
	lag    atomic.Int64 // in ms, as of when it last changed by more than clockJump
	kept   int64        // the time that was written last; only the writer's
	writes int64        // how often it was written; only the writer's
}

const (
	clockJump = int64(time.Minute / time.Millisecond)      // how far the wall clock may be off before the lag changes
	maxStop   = int64(10 * time.Minute / time.Millisecond) // the longest stop that counts
	keepAfter = int64(time.Minute / time.Millisecond)      // how old the time in the database may be when something is written
)

// startClock continues the clock of the database. One that is damaged begins again with the wall clock.
func startClock(c *sqlite.Conn, wall func() time.Time, log *slog.Logger) (*clock, error) {
	var lag, kept int64
	err := each(c, "SELECT clock_lag, clock_kept, clock_sum FROM meta", nil, func(row *sqlite.Stmt) error {
		lag, kept = row.ColumnInt64(0), row.ColumnInt64(1)
		if lag+kept != row.ColumnInt64(2) {
			lag, kept = 0, 0
			logDamage(log, &damage{"meta", 1, "its clock"})
		}
		return nil
	})
	k := &clock{wall: wall, log: log, opened: time.Now()}
	began, moved := millis(k.wall())-lag, int64(0)
	if kept != 0 && (began < kept-clockJump || began > kept+maxStop) {
		moved = began - (kept + keepAfter) // nothing was stored later
		k.logMoved(moved, "while the node was stopped")
	}
	k.began = max(began-moved, kept)
	k.lag.Store(lag + moved)
	return k, err
}

// now is the time in ms since the Unix epoch. It never goes back.
func (k *clock) now() int64 { return k.began + time.Since(k.opened).Milliseconds() }

// shown returns a time as the wall clock shows it. 0 is no time.
func (k *clock) shown(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return fromMillis(ms + k.lag.Load())
}

// stored returns the time when the wall clock says t.
func (k *clock) stored(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return millis(t) - k.lag.Load()
}

// shownRecord returns a host's record with the times that shown returns.
func (k *clock) shownRecord(r queue.HostRecord) queue.HostRecord {
	return r.Shifted(time.Duration(k.lag.Load()) * time.Millisecond)
}

// storedRecord undoes shownRecord.
func (k *clock) storedRecord(r queue.HostRecord) queue.HostRecord {
	return r.Shifted(-time.Duration(k.lag.Load()) * time.Millisecond)
}

func (k *clock) shownKey(key queue.Key) queue.Key {
	key.CreatedAt = k.shown(millis(key.CreatedAt))
	return key
}

// moved returns how far the wall clock has moved, in ms, if it is far enough to matter.
func (k *clock) moved() int64 {
	by := millis(k.wall()) - k.now() - k.lag.Load()
	if by >= -clockJump && by <= clockJump {
		return 0
	}
	return by
}

// keepTime writes the time, at most once a minute, and the lag if the wall clock has moved.
func (k *clock) keepTime(t *tx) error {
	t.moved = k.moved()
	if t.moved == 0 && t.now-k.kept < keepAfter {
		return nil
	}
	t.kept = t.now
	lag := k.lag.Load() + t.moved
	return t.exec("UPDATE meta SET clock_lag = ?, clock_kept = ?, clock_sum = ?", lag, t.kept, lag+t.kept)
}

// keptTime applies what keepTime has written.
func (k *clock) keptTime(t *tx) {
	if t.kept != 0 {
		k.kept = t.kept
		k.writes++
	}
	if t.moved != 0 {
		k.lag.Add(t.moved)
		k.logMoved(t.moved, "while the node was running")
	}
}

func (k *clock) logMoved(ms int64, when string) {
	k.log.Warn("store.clock_moved", "by", (time.Duration(ms) * time.Millisecond).String(), "when", when,
		"detail", "the wall clock jumped, or the node or the machine stood still: all due times, TTLs and leases move with it")
}
