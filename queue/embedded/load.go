package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// loader rebuilds memory from the database. A damaged row stops nothing: its delivery is set aside, or left out if not even the
// activity is known, and repairs make the database readable for the rest of the store.
type loader struct {
	s       *Store
	ledger  *ledger
	c       *sqlite.Conn
	now     int64
	lost    map[string]int // how many damaged rows of each table were found
	repairs []func(t *tx) error
	aside   []burial
}

// load rebuilds memory from the database.
func load(s *Store) error {
	l := &loader{s: s, ledger: s.writer.ledger, c: s.db.conn, now: s.clock.now(), lost: map[string]int{}}
	if err := l.run(); err != nil {
		return err
	}
	return l.repair()
}

func (l *loader) run() error {
	s := l.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = &keyring{}
	s.index = newIndex(s.keys)
	s.index.wake, s.index.changed = s.wake, s.changed
	s.index.laneCap = s.opts.Lane
	if s.opts.Rand != nil {
		s.index.random = s.opts.Rand.IntN
	}
	l.ledger.receipts, l.ledger.bodies = newReceipts(l.now), bodies{}
	l.ledger.tombstones = s.index.tombstones
	for _, step := range []func() error{
		l.receipts, l.next, l.totals, l.keys, l.orders, l.lanes, l.tombstones, l.activities, l.deliveries, l.bodies, l.marks,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.index.byID)) {
		lane := s.index.byID[id]
		s.index.place(lane, l.now)
		s.changed(lane) // it may have while the store was closed
		s.index.unused.note(lane, lane.lastTried())
	}
	for table, n := range l.lost {
		if n > damageLines {
			logDamage(s.opts.Log, fmt.Errorf("%d rows of %s are damaged", n, table))
		}
	}
	return nil
}

// damageLines is how many damaged rows of a table get a log line of their own at start.
const damageLines = 100

// rows calls read for each row of a query, which is ordered by its first column, the key of the table. A row that read finds
// damaged is left out. Any other error names the row, and so does a panic.
func (l *loader) rows(table, query string, args []any, read func(*sqlite.Stmt) error) (err error) {
	before, isFirst := int64(0), true
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("row %d of %s: %v", before, table, p)
		}
	}()
	err = each(l.c, query, args, func(row *sqlite.Stmt) error {
		key := row.ColumnInt64(0)
		if !isFirst && key <= before {
			return errDisorder
		}
		before, isFirst = key, false
		err := read(row)
		if d, ok := errors.AsType[*damage](err); ok {
			d.table, d.row = table, key
			l.leaveOut(d)
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s after row %d: %w", table, before, err)
	}
	return nil
}

// leaveOut logs a damaged row, unless there were many already.
func (l *loader) leaveOut(d *damage) {
	if l.lost[d.table]++; l.lost[d.table] <= damageLines {
		logDamage(l.s.opts.Log, d)
	}
}

// mend changes a row once all is loaded.
func (l *loader) mend(query string, args ...any) {
	l.repairs = append(l.repairs, func(t *tx) error { return t.exec(query, args...) })
}

// repair writes the repairs and sets deliveries aside. If it can't, on a full disk for example, these leave their lanes all the
// same.
func (l *loader) repair() error {
	if len(l.repairs)+len(l.aside) == 0 {
		return nil
	}
	o := &op{run: func(t *tx) error {
		for _, repair := range l.repairs {
			if err := repair(t); err != nil {
				return err
			}
		}
		return t.buryAll(l.aside)
	}, done: make(chan error, 1)}
	if _, err := l.s.writer.transact(slices.Values([]*op{o})); err != nil {
		if isCorrupt(err) {
			return err
		}
		logDamage(l.s.opts.Log, fmt.Errorf("set aside what is damaged: %w", err))
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.s.index.forgetBuried(l.aside, l.now)
	return nil
}

// receipts remembers the keys of a day.
func (l *loader) receipts() error {
	since := l.now - queue.IdempotencyTTL.Milliseconds()
	return l.rows("activities", "SELECT seq, idempotency FROM activities WHERE idempotency IS NOT NULL AND created > ? ORDER BY seq",
		[]any{since}, func(row *sqlite.Stmt) error {
			key := blob(row, 1)
			if len(key) != len(queue.Idempotency{}.Key) {
				l.mend("UPDATE activities SET idempotency = NULL WHERE seq = ?", row.ColumnInt64(0))
				return &damage{what: "its idempotency key"}
			}
			l.ledger.receipts.generations[0][receiptKey(key)] = row.ColumnInt64(0)
			return nil
		})
}

// next finds the seq of the next activity, which is greater than those of all tombstones too, the id of the next delivery, and
// when the newest activity was accepted.
func (l *loader) next() error {
	to := l.ledger
	newest, _, err := one(l.c, (*sqlite.Stmt).ColumnInt64, "SELECT created FROM activities WHERE older = 0 ORDER BY seq DESC LIMIT 1")
	if err != nil {
		return fmt.Errorf("activities: %w", err)
	}
	to.newest = min(newest, l.s.clock.now()) // else it is damaged
	if to.older, _, err = one(l.c, (*sqlite.Stmt).ColumnInt64, "SELECT older FROM activities ORDER BY seq DESC LIMIT 1"); err != nil {
		return fmt.Errorf("activities: %w", err)
	}
	to.seq, to.next = 1, 1
	for _, q := range []struct {
		table, query string
		next         *int64
	}{
		{"activities", "SELECT max(seq) FROM activities", &to.seq},
		{"tombstones", "SELECT max(seq) FROM tombstones", &to.seq},
		{"bodies", "SELECT max(activity) FROM bodies", &to.seq},
		{"deliveries", "SELECT max(id) FROM deliveries", &to.next},
		{"dead", "SELECT max(id) FROM dead", &to.next},
		{"activities", "SELECT first + total - 1 FROM activities ORDER BY seq DESC LIMIT 1", &to.next},
	} {
		last, _, err := one(l.c, (*sqlite.Stmt).ColumnInt64, q.query)
		if err != nil {
			return fmt.Errorf("%s: %w", q.table, err)
		}
		if last < maxID {
			*q.next = max(*q.next, last+1)
		}
	}
	return nil
}

// marks makes those marks again that were not written.
func (l *loader) marks() error {
	l.ledger.marks = nil
	return l.rows("activities", "SELECT seq, uri, actor, key_id FROM activities WHERE seq > (SELECT marked FROM meta) AND older = 0 ORDER BY seq", nil,
		func(row *sqlite.Stmt) error {
			l.ledger.marks = appendMarks(l.ledger.marks, row.ColumnInt64(0), row.ColumnText(1), row.ColumnText(2), row.ColumnText(3))
			return nil
		})
}

// maxID is greater than the id of any row: no store lives so long.
const maxID = 1 << 60

func (l *loader) keys() error {
	return each(l.c, "SELECT "+keyColumns+" FROM keys", nil, func(row *sqlite.Stmt) error {
		k := readKey(row)
		l.s.keys.put(k)
		l.s.index.retiresAt(&k)
		return nil
	})
}

func (l *loader) lanes() error {
	query := "SELECT lane, host, record, wait_until, wait_since, hastened, state, changed FROM hosts ORDER BY lane"
	return l.rows("hosts", query, nil, func(row *sqlite.Stmt) error {
		n := newLane(row.ColumnInt64(0), row.ColumnText(1))
		n.wait, n.since = row.ColumnInt64(3), row.ColumnInt64(4)
		n.quick = row.ColumnInt(5)
		n.told = turned{queue.HostState(row.ColumnText(6)), row.ColumnInt64(7)}
		err := decode(row.ColumnText(2), &n.record)
		if err != nil {
			n.record = queue.HostRecord{}
			l.mend("UPDATE hosts SET record = '{}' WHERE lane = ?", n.id)
			err = &damage{what: "what was learnt of " + n.host + ": " + err.Error()}
		}
		l.s.index.add(n)
		return err
	})
}

func (l *loader) tombstones() error {
	all := l.s.index.tombstones
	return l.rows("tombstones", "SELECT seq, object, uri FROM tombstones ORDER BY seq", nil, func(row *sqlite.Stmt) error {
		put(all.objects, row.ColumnText(1), row.ColumnInt64(0))
		put(all.deletions, row.ColumnText(2), row.ColumnInt64(0))
		return nil
	})
}

// indexed are the columns of an activity that readIndexed reads.
const indexed = "a.seq, a.first, a.id, a.key_id, a.ordering_key, a.priority, a.created, a.uri, a.role, a.object, a.body, a.pin"

// readIndexed reads what the index has of an activity.
func readIndexed(row *sqlite.Stmt) activity {
	return activity{
		seq: row.ColumnInt64(0), first: row.ColumnInt64(1), id: uuidOf(row, 2), keyName: queue.KeyName(row.ColumnText(3), row.ColumnText(11)),
		ordering: hashOf(row.ColumnText(4)), priority: priorityOf(row, 5), created: row.ColumnInt64(6),
		uri: hashOf(row.ColumnText(7)), makes: makes(queue.Role(row.ColumnInt64(8)), row.ColumnText(9)), body: row.ColumnInt64(10),
	}
}

const selectActivities = "SELECT " + indexed + ", a.digest, a.total FROM activities a WHERE "

func (l *loader) activities() error {
	return l.rows("activities", selectActivities+"expires_next IS NOT NULL ORDER BY seq", nil, l.activity)
}

// activity loads an activity. If it is damaged, its pending deliveries are set aside.
func (l *loader) activity(row *sqlite.Stmt) error {
	a := new(readIndexed(row))
	what := activityDamage(row)
	if what != "" {
		a.damaged = true
		if a.id == ([16]byte{}) || l.s.index.bySeq[a.id] != nil {
			a.id = uuid.Must(uuid.NewV7())
		}
		l.mend("UPDATE activities SET id = ?, priority = ?, role = 0 WHERE seq = ?", bytes.Clone(a.id[:]), int64(a.priority), a.seq)
	}
	l.ledger.bodies.load(a.body, blob(row, 12))
	l.s.index.addActivity(a, nil)
	if what != "" {
		return &damage{what: what + "; its deliveries are set aside"}
	}
	return nil
}

// activityDamage names the invalid part of an activity, "" if it finds none.
func activityDamage(row *sqlite.Stmt) string {
	first, total := row.ColumnInt64(1), row.ColumnInt64(13)
	switch p, r := row.ColumnInt64(5), row.ColumnInt64(8); {
	case row.ColumnLen(2) != 16:
		return "its ID"
	case int64(priorityOf(row, 5)) != p:
		return "its priority"
	case r < 0 || r >= int64(queue.Roles):
		return "its role"
	case first <= 0 || first > maxID || total < 0 || total > maxID:
		return "which deliveries it has"
	}
	return ""
}

// deliveries loads the pending deliveries.
func (l *loader) deliveries() error {
	return l.rows("deliveries", "SELECT id, activity, lane, due, attempts, flags, inbox FROM deliveries ORDER BY id", nil, l.delivery)
}

func (l *loader) delivery(row *sqlite.Stmt) error {
	x, inbox := l.s.index, row.ColumnText(6)
	host := laneNameOf(inbox)
	e := &entry{id: row.ColumnInt64(0), lane: x.byID[row.ColumnInt64(2)], due: row.ColumnInt64(3), attempts: uint16(row.ColumnInt64(4))}
	var err error
	if e.act, err = l.activityOf(row.ColumnInt64(1), e.id); err != nil {
		return err
	}
	if e.lane == nil {
		if e.lane, err = l.laneOf(host); err != nil {
			return err
		}
		l.mend("UPDATE deliveries SET lane = ? WHERE id = ?", e.lane.id, e.id)
	}
	x.admit(e, uint8(row.ColumnInt64(5)), inbox, l.now) // a few bits
	switch {
	case e.act.damaged:
		l.aside = append(l.aside, burial{e, queue.ReasonDamaged})
	case host != e.lane.host:
		l.aside = append(l.aside, burial{e, queue.ReasonDamaged})
		return &damage{what: fmt.Sprintf("its inbox is %q, and its host %s; it is set aside", inbox, e.lane.host)}
	}
	return nil
}

// activityOf returns the activity of a delivery, also if it was not found among those that pend.
func (l *loader) activityOf(seq, delivery int64) (*activity, error) {
	a := l.s.index.activities[seq]
	if a == nil {
		err := each(l.c, selectActivities+"seq = ?", []any{seq}, func(row *sqlite.Stmt) error {
			d, _ := errors.AsType[*damage](l.activity(row))
			if d == nil {
				d = &damage{what: "when it expires"}
			}
			d.table, d.row = "activities", seq
			l.leaveOut(d)
			return nil
		})
		if err != nil {
			return nil, err
		}
		a = l.s.index.activities[seq]
		l.mend(`UPDATE activities SET done_at = NULL, expires_next = (SELECT min(expires) FROM deliveries WHERE activity = ?1 AND id >= first
			AND id < first + total) WHERE seq = ?1`, seq)
	}
	if a == nil || delivery < a.first {
		return nil, &damage{what: fmt.Sprintf("its activity, %d; it is left out", seq)}
	}
	return a, nil
}

// laneOf returns the lane of a host, and makes it if it is missing.
func (l *loader) laneOf(host string) (*lane, error) {
	if host == "" {
		return nil, &damage{what: "its host and its inbox; it is left out"}
	}
	if known := l.s.index.lanes[host]; known != nil {
		return known, nil
	}
	id, _, err := one(l.c, (*sqlite.Stmt).ColumnInt64, "INSERT INTO hosts (host) VALUES (?) RETURNING lane", host)
	if err != nil {
		return nil, err
	}
	made := newLane(id, host)
	l.s.index.add(made)
	l.leaveOut(&damage{table: "hosts", row: id, what: "the row of " + host + " is lost, and with it what was learnt of the host"})
	return made, nil
}

// bodies finds the bodies that only dead letters hold. activities finds the others.
func (l *loader) bodies() error {
	return l.rows("activities", "SELECT seq, body, digest FROM activities WHERE letters > 0 AND expires_next IS NULL ORDER BY seq", nil,
		func(row *sqlite.Stmt) error {
			if l.s.index.activities[row.ColumnInt64(0)] == nil {
				l.ledger.bodies.load(row.ColumnInt64(1), blob(row, 2))
			}
			return nil
		})
}

func (l *loader) totals() error {
	to := &l.s.stats
	*to = totals{}
	err := each(l.c, "SELECT (SELECT count(*) FROM activities), (SELECT count(*) FROM dead), delivered, dropped FROM meta", nil,
		func(row *sqlite.Stmt) error {
			to.activities, to.dead = row.ColumnInt(0), row.ColumnInt(1)
			to.delivered, to.dropped = row.ColumnInt64(2), row.ColumnInt64(3)
			return nil
		})
	if err != nil {
		return err
	}
	return each(l.c, "SELECT reason, n FROM died", nil, func(row *sqlite.Stmt) error {
		to.die(queue.Reason(row.ColumnText(0)), row.ColumnInt64(1))
		return nil
	})
}
