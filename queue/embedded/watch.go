package embedded

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

// stored is an activity as its row has it.
type stored struct {
	queue.ActivityStatus
	seq, first, end int64
}

func readActivity(c *sqlite.Conn, id string) (a stored, err error) {
	key, err := uuid.Parse(id)
	if err != nil {
		return a, queue.ErrNotFound
	}
	err = each(c, `SELECT seq, first, uri, type, key_id, created, total, delivered, dead, cancelled FROM activities WHERE id = ?`,
		[]any{key[:]}, func(row *sqlite.Stmt) error {
			a.seq, a.first, a.ID = row.ColumnInt64(0), row.ColumnInt64(1), key.String()
			a.URI, a.Type, a.KeyID = row.ColumnText(2), row.ColumnText(3), row.ColumnText(4)
			a.CreatedAt = fromMillis(row.ColumnInt64(5))
			n := queue.Counts{Total: row.ColumnInt(6), Delivered: row.ColumnInt(7), Dead: row.ColumnInt(8), Cancelled: row.ColumnInt(9)}
			n.Pending = n.Total - n.Delivered - n.Dead - n.Cancelled
			a.Counts, a.State, a.end = n, n.State(), a.first+int64(n.Total)
			return nil
		})
	if err == nil && a.seq == 0 {
		err = queue.ErrNotFound
	}
	return a, err
}

// Activity implements queue.Watching.
func (s *Store) Activity(ctx context.Context, id string) (queue.ActivityStatus, error) {
	var a stored
	err := s.read(ctx, func(c *sqlite.Conn) (err error) {
		a, err = readActivity(c, id)
		return err
	})
	if err != nil {
		return queue.ActivityStatus{}, fmt.Errorf("activity %s: %w", id, err)
	}
	return a.ActivityStatus, nil
}

// Deliveries implements queue.Watching.
func (s *Store) Deliveries(ctx context.Context, id string, state queue.DeliveryState, p queue.Page) (queue.List[queue.DeliveryStatus], error) {
	var list queue.List[queue.DeliveryStatus]
	from, err := cursor(p.Cursor, 1)
	if err != nil {
		return list, err
	}
	var a stored
	err = s.read(ctx, func(c *sqlite.Conn) error {
		if a, err = readActivity(c, id); err != nil {
			return err
		}
		return each(c, `SELECT d.id, d.inbox, h.host, '', d.attempts, d.last FROM deliveries d JOIN hosts h ON h.lane = d.lane
			WHERE d.id >= ?1 AND d.id < ?2 AND ?3 != 'dead'
			UNION ALL SELECT id, inbox, host, reason, attempts, last FROM dead WHERE id >= ?1 AND id < ?2 AND ?3 != 'pending'
			ORDER BY 1 LIMIT ?4`, []any{a.first + from[0], a.end, string(state), p.Limit + 1}, func(row *sqlite.Stmt) error {
			n := row.ColumnInt64(0) - a.first
			if len(list.Items) == p.Limit {
				list.Next = strconv.FormatInt(n, 10)
				return nil
			}
			d := queue.DeliveryStatus{
				ID: a.ID + "." + strconv.FormatInt(n, 10), Inbox: row.ColumnText(1), Host: row.ColumnText(2),
				State: queue.StatePending, Reason: queue.Reason(row.ColumnText(3)), Attempts: row.ColumnInt(4),
			}
			if d.Reason != "" {
				d.State = queue.StateDead
			}
			list.Items = append(list.Items, d)
			return decode(row.ColumnText(5), &list.Items[len(list.Items)-1].LastAttempt)
		})
	})
	if err != nil {
		return queue.List[queue.DeliveryStatus]{}, fmt.Errorf("deliveries of %s: %w", id, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range list.Items {
		_, n, _ := splitID(list.Items[i].ID)
		list.Items[i].NextAttemptAt = s.index.nextAttempt(a.first + n)
	}
	return list, nil
}

// nextAttempt returns when a delivery may be attempted next, zero if that is not known.
func (x *index) nextAttempt(id int64) time.Time {
	e := x.entries[id]
	if e == nil || e.prev != nil || e.due == never {
		return time.Time{}
	}
	if e.lane.probing() {
		return fromMillis(max(e.lane.wait, e.act.created))
	}
	return fromMillis(max(e.due, e.lane.wait))
}

// Cancel implements queue.Watching.
func (s *Store) Cancel(ctx context.Context, id string) (queue.ActivityStatus, error) {
	var a stored
	var answer error
	var ids []int64
	err := s.writer.do(ctx, func(t *tx) error {
		ids = nil
		if a, answer = readActivity(t.conn, id); answer != nil {
			return nil
		}
		err := each(t.conn, "DELETE FROM deliveries WHERE id >= ? AND id < ? RETURNING id", []any{a.first, a.end}, func(row *sqlite.Stmt) error {
			ids = append(ids, row.ColumnInt64(0))
			return nil
		})
		if len(ids) > 0 {
			t.count(a.seq).cancelled += int64(len(ids))
		}
		return err
	}, func() {
		now := millis(time.Now())
		for _, id := range ids {
			if e := s.index.entries[id]; e != nil {
				s.index.remove(e, now)
				s.index.place(e.lane, now)
			}
		}
	})
	if err == nil {
		err = answer
	}
	if err != nil {
		return queue.ActivityStatus{}, fmt.Errorf("cancel %s: %w", id, err)
	}
	return s.Activity(ctx, id)
}

// Host implements queue.Watching.
func (s *Store) Host(_ context.Context, host string) (queue.HostStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.index.lanes[host]; l != nil {
		return l.status(millis(time.Now())), nil
	}
	return queue.HostStatus{Host: host, State: queue.HostHealthy}, nil
}

func (l *lane) status(now int64) queue.HostStatus {
	h := queue.HostStatus{
		Host: l.host, State: l.state(), Pending: l.pending, InFlight: min(len(l.taken), max(1, l.record.Breaker.Window)), Record: l.record,
	}
	if l.wait > now {
		h.RetryAt = fromMillis(l.wait)
	}
	if oldest := l.oldest(); oldest != nil {
		h.OldestPendingAt = fromMillis(oldest.act.created)
	}
	return h
}

// oldest returns the oldest pending delivery: one that is the head of its chain.
func (l *lane) oldest() (oldest *entry) {
	older := func(e *entry) {
		if oldest == nil || e.id < oldest.id {
			oldest = e
		}
	}
	for p := range l.ready {
		if es := l.ready[p].es; len(es) > 0 {
			older(es[0])
		}
	}
	for _, e := range l.later.es {
		older(e)
	}
	for _, e := range l.taken {
		older(e)
	}
	return oldest
}

func (l *lane) state() queue.HostState {
	switch {
	case l.blocked:
		return queue.HostBlocked
	case l.paused:
		return queue.HostPaused
	case l.record.Unavailable:
		return queue.HostUnavailable
	case l.record.Breaker.State != breaker.Closed:
		return queue.HostOpen
	case l.record.Breaker.Failed:
		return queue.HostFailing
	}
	return queue.HostHealthy
}

// hostsAtOnce is how many hosts are looked at under the lock at once.
const hostsAtOnce = 500

// Hosts implements queue.Watching.
func (s *Store) Hosts(ctx context.Context, f queue.HostFilter, p queue.Page) (queue.List[queue.HostStatus], error) {
	var list queue.List[queue.HostStatus]
	after, err := nameAfter(p.Cursor)
	if err != nil {
		return list, err
	}
	for {
		names, err := s.hostNames(ctx, after, strings.ToLower(f.Query))
		if err != nil {
			return queue.List[queue.HostStatus]{}, fmt.Errorf("hosts: %w", err)
		}
		if full := s.addHosts(&list, names, f.State, p.Limit); full || len(names) < hostsAtOnce {
			return list, nil
		}
		after = names[len(names)-1]
	}
}

func (s *Store) hostNames(ctx context.Context, after, part string) (names []string, err error) {
	err = s.read(ctx, func(c *sqlite.Conn) error {
		return each(c, "SELECT host FROM hosts WHERE host > ? AND instr(host, ?) > 0 ORDER BY host LIMIT ?",
			[]any{after, part, hostsAtOnce}, func(row *sqlite.Stmt) error {
				names = append(names, row.ColumnText(0))
				return nil
			})
	})
	return names, err
}

// addHosts adds the hosts of a state to a list and tells whether that is full and there are more.
func (s *Store) addHosts(list *queue.List[queue.HostStatus], names []string, state queue.HostState, limit int) (full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := millis(time.Now())
	for _, name := range names {
		l := s.index.lanes[name]
		if l == nil || state != "" && l.state() != state {
			continue
		}
		if len(list.Items) == limit {
			list.Next = cursorAfter(list.Items[limit-1].Host)
			return true
		}
		list.Items = append(list.Items, l.status(now))
	}
	return false
}

// DeadLetters implements queue.Watching.
func (s *Store) DeadLetters(ctx context.Context, f queue.DeadLetterFilter, p queue.Page) (queue.List[queue.DeadLetter], error) {
	var list queue.List[queue.DeadLetter]
	before, err := cursor(p.Cursor, 2)
	if err != nil {
		return list, err
	}
	if p.Cursor == "" {
		before = []int64{never, never}
	}
	query := `SELECT d.id, d.died_at, a.id, a.first, a.uri, d.inbox, d.host, d.reason, d.attempts, d.last
		FROM dead d JOIN activities a ON a.seq = d.activity WHERE (d.died_at, d.id) < (?, ?) AND d.died_at >= ?`
	args := []any{before[0], before[1], max(0, millis(f.Since))}
	if f.Host != "" {
		query, args = query+" AND d.host = ?", append(args, f.Host)
	}
	if f.Reason != "" {
		query, args = query+" AND d.reason = ?", append(args, string(f.Reason))
	}
	query, args = query+" ORDER BY d.died_at DESC, d.id DESC LIMIT ?", append(args, p.Limit+1)
	var last [2]int64
	err = s.read(ctx, func(c *sqlite.Conn) error {
		return each(c, query, args, func(row *sqlite.Stmt) error {
			if len(list.Items) == p.Limit {
				list.Next = fmt.Sprintf("%d-%d", last[0], last[1])
				return nil
			}
			last = [2]int64{row.ColumnInt64(1), row.ColumnInt64(0)}
			act := uuid.UUID(blob(row, 2)).String()
			list.Items = append(list.Items, queue.DeadLetter{
				ID: act + "." + strconv.FormatInt(row.ColumnInt64(0)-row.ColumnInt64(3), 10), ActivityID: act,
				URI: row.ColumnText(4), Inbox: row.ColumnText(5), Host: row.ColumnText(6), Reason: queue.Reason(row.ColumnText(7)),
				Attempts: row.ColumnInt(8), DiedAt: fromMillis(row.ColumnInt64(1)),
			})
			return decode(row.ColumnText(9), &list.Items[len(list.Items)-1].LastAttempt)
		})
	})
	if err != nil {
		return queue.List[queue.DeadLetter]{}, fmt.Errorf("dead letters: %w", err)
	}
	return list, nil
}

// cursor parses n numbers that are not negative, joined by "-"; an empty cursor is all zeros.
func cursor(text string, n int) ([]int64, error) {
	numbers := make([]int64, n)
	if text == "" {
		return numbers, nil
	}
	parts := strings.Split(text, "-")
	if len(parts) != n {
		return nil, queue.ErrBadCursor
	}
	for i, part := range parts {
		v, err := strconv.ParseUint(part, 10, 62)
		if err != nil {
			return nil, queue.ErrBadCursor
		}
		numbers[i] = int64(v)
	}
	return numbers, nil
}

// cursorAfter is the cursor of what comes after a name, and nameAfter the reverse.
func cursorAfter(name string) string { return "n" + base64.RawURLEncoding.EncodeToString([]byte(name)) }

func nameAfter(cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	text, ok := strings.CutPrefix(cursor, "n")
	name, err := base64.RawURLEncoding.DecodeString(text)
	if !ok || err != nil || len(name) == 0 {
		return "", queue.ErrBadCursor
	}
	return string(name), nil
}

// Stats implements queue.Watching.
func (s *Store) Stats(ctx context.Context) (queue.Stats, error) {
	st := queue.Stats{Hosts: map[queue.HostState]int{}}
	err := s.read(ctx, func(c *sqlite.Conn) error {
		return each(c, "SELECT a.created FROM deliveries d JOIN activities a ON a.seq = d.activity ORDER BY d.id LIMIT 1", nil,
			func(row *sqlite.Stmt) error {
				st.OldestPendingAt = fromMillis(row.ColumnInt64(0))
				return nil
			})
	})
	if err != nil {
		return st, fmt.Errorf("stats: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.index.lanes {
		st.Hosts[l.state()]++
	}
	st.Activities, st.Pending, st.Dead, st.Delivered = s.stats.activities, len(s.index.entries), s.stats.dead, s.stats.delivered
	return st, nil
}
