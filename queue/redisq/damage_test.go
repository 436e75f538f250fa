package redisq

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
)

// TestGarbage checks that garbage in whatever field of a key stops nothing but the delivery that it damages: all others are
// delivered, the store stays ready, and the log names the key.
func TestGarbage(t *testing.T) {
	server := testredis.Start(t)
	for _, tt := range []struct {
		name string
		// garble changes what is stored of three activities to a.example, b.example and c.example; ID is the first one's.
		garble    func(s *Store, p *partition, id string)
		delivered int // of nine
		dead      int // that say damaged
		log       string
	}{
		{"delivery", func(_ *Store, p *partition, _ string) {
			server.Must("HSET", p.Of(rediskeys.Lane, "b.example"), firstField(server, p, "b.example"), "garbage")
		}, 8, 0, "h:b.example"},
		{"packed delivery", func(_ *Store, p *partition, _ string) {
			server.Must("HSET", p.Of(rediskeys.Lane, "b.example"), firstField(server, p, "b.example"), "\x93\xa1x\xa1y\xa1z")
		}, 8, 0, "h:b.example"},
		{"new field", func(_ *Store, p *partition, _ string) {
			server.Must("HSET", p.Of(rediskeys.Lane, "b.example"), "some", "garbage")
		}, 9, 0, ""},
		{"state", func(_ *Store, p *partition, _ string) {
			server.Must("HSET", p.Of(rediskeys.Lane, "b.example"), "s", "garbage")
		}, 9, 0, ""},
		{"state of texts", func(_ *Store, p *partition, _ string) {
			server.Must("HSET", p.Of(rediskeys.Lane, "b.example"), "s", "\xa13\xa13\x01")
		}, 9, 0, ""},
		{"record", func(_ *Store, p *partition, _ string) {
			server.Must("HSET", p.Of(rediskeys.Lane, "b.example"), "r", "garbage")
		}, 9, 0, "h:b.example"},
		{"description", func(_ *Store, p *partition, id string) {
			server.Must("HSET", p.Of(rediskeys.Activity, id), "m", "garbage")
		}, 6, 3, "a:"},
		{"priority", func(_ *Store, p *partition, id string) {
			server.Must("HSET", p.Of(rediskeys.Activity, id), "q", "garbage")
		}, 6, 3, "a:"},
		{"counts", func(_ *Store, p *partition, id string) {
			server.Must("HSET", p.Of(rediskeys.Activity, id), "d", "garbage", "x", "garbage")
		}, 9, 0, ""},
		{"activity", func(_ *Store, p *partition, id string) { server.Must("DEL", p.Of(rediskeys.Activity, id)) }, 6, 0, "a:"},
		{"list", func(_ *Store, p *partition, id string) { server.Must("DEL", p.Of(rediskeys.Recipients, id)) }, 9, 0, ""},
		{"bodies", func(_ *Store, p *partition, id string) {
			server.Must("HSET", p.Key(rediskeys.Bodies), server.Must("HGET", p.Of(rediskeys.Activity, id), "b"), "garbage")
		}, 6, 3, "bodies"},
		{"body", func(_ *Store, p *partition, id string) {
			server.Must("HDEL", p.Key(rediskeys.Bodies), server.Must("HGET", p.Of(rediskeys.Activity, id), "b"))
		}, 6, 3, "bodies"},
		{"lists", func(_ *Store, p *partition, _ string) {
			for _, kind := range []rediskeys.Kind{rediskeys.Expires, rediskeys.Done, rediskeys.Staged, rediskeys.Dead, rediskeys.Outdated} {
				server.Must("ZADD", p.Key(kind), "1", "garbage")
			}
			server.Must("RPUSH", p.Key(rediskeys.Tombs), "g")
		}, 9, 0, "expires"},
		{"later", func(_ *Store, p *partition, _ string) {
			server.Must("HSET", p.Key(rediskeys.Stats), "later", "1")
			server.Must("ZADD", p.Key("later"), "0", "page")
			server.Must("HSET", p.Key("laterpages"), "page", "garbage\n")
		}, 9, 0, ""},
		{"letters", func(_ *Store, p *partition, _ string) {
			name := strings.Repeat("x", letterBytes)
			server.Must("ZADD", p.Key(rediskeys.Dead), "4102444800000", name)
			server.Must("HSET", p.Key(rediskeys.Letters), name, "garbage")
		}, 9, 0, "letters"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, log := openLogging(t, Options{URL: server.URL(), Prefix: strings.ReplaceAll(tt.name, " ", "-"), Limits: queue.Limits{DeadRetention: queue.IdempotencyTTL}})
			first := submission("1", 100, "a.example", "b.example", "c.example")
			enqueue(t, s, first)
			enqueue(t, s, submission("2", 120, "a.example", "b.example", "c.example"))
			enqueue(t, s, submission("3", 130, "a.example", "b.example", "c.example"))
			id := uuid.MustParse(first.ID).String()
			s.activities = newCache[*cachedActivity](activityBytes)
			tt.garble(s, s.parts[0], id)
			if o, err := s.Due(t.Context(), queue.Want{Lanes: 10, Suspect: 10}); err != nil || len(o.Hosts) != 3 {
				t.Errorf("Due gave %v, %v", o.Hosts, err)
			}
			delivered := 0
			work(t, s, 7, []string{"a.example", "b.example", "c.example"}, func(int) queue.Result {
				delivered++
				return queue.Result{Spent: true}
			})
			sweepAll(t, s)
			if err := s.Ready(t.Context()); err != nil {
				t.Error(err)
			}
			list, err := s.DeadLetters(t.Context(), queue.DeadLetterFilter{}, queue.Page{Limit: 10})
			if err != nil || len(list.Items) != tt.dead || delivered != tt.delivered {
				t.Errorf("%d were delivered and %d are dead letters, %v, want %d and %d", delivered, len(list.Items), err, tt.delivered, tt.dead)
			}
			for _, l := range list.Items {
				if l.Reason != queue.ReasonDamaged {
					t.Errorf("%s is dead for %s", l.ID, l.Reason)
				}
			}
			if n := pending(t, s); n != 0 {
				t.Errorf("%d are pending", n)
			}
			if !strings.Contains(log.String(), tt.log) || tt.log == "" && log.Len() > 0 {
				t.Errorf("the log says %q, want it to name %q", log, tt.log)
			}
			enqueue(t, s, submission("4", 100, "a.example", "b.example", "c.example"))
			if _, err := s.Hosts(t.Context(), queue.HostFilter{}, queue.Page{Limit: 10}); err != nil {
				t.Error(err)
			}
		})
	}
}

// firstField returns the field of the first delivery in a lane's window.
func firstField(server *testredis.Server, p *partition, host string) string {
	for field := range strings.FieldsSeq(server.Must("HKEYS", p.Of(rediskeys.Lane, host))) {
		if field != "s" && field != "r" && field != "e" {
			return field
		}
	}
	return ""
}
