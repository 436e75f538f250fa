package redisq

import (
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
)

// versioned is a key whose fingerprint tells how often it was replaced.
func versioned(id string, version int) queue.Key {
	return queue.Key{ID: id, Algorithm: "rsa", Fingerprint: strconv.Itoa(version), Sealed: []byte(id)}
}

// TestKeyReadTogether checks that those who ask for keys while a read is under way share the next, and see what was changed
// since they asked and before it is sent.
func TestKeyReadTogether(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p"})
	for _, id := range []string{"a", "b", "gone"} {
		if _, err := s.PutKey(t.Context(), versioned(id, 1)); err != nil {
			t.Fatal(err)
		}
	}
	ids := []string{"a", "b", "gone", "never", "a", "b", "a"}
	want := map[string]string{"a": "2", "b": "1", "gone": "", "never": ""}
	g := s.parts[0].keyReads
	hold(g)
	var asking sync.WaitGroup
	for _, id := range ids {
		asking.Go(func() {
			k, err := s.Key(t.Context(), id, "")
			if k.Fingerprint != want[id] || errors.Is(err, queue.ErrNotFound) != (want[id] == "") {
				t.Errorf("Key of %s gave version %q, %v, want %q", id, k.Fingerprint, err, want[id])
			}
		})
	}
	for waiting := 0; waiting < len(ids); time.Sleep(time.Millisecond) {
		g.mu.Lock()
		waiting = len(g.waiting)
		g.mu.Unlock()
	}
	if _, err := s.PutKey(t.Context(), versioned("a", 2)); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteKey(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	before := server.Calls("hmget")
	s.work.Go(g.run)
	asking.Wait()
	if n := server.Calls("hmget") - before; n != 1 {
		t.Errorf("%d reads were made, want one for all", n)
	}
}

// TestKeyReadUnderWay checks that nobody gets what was read before they asked.
func TestKeyReadUnderWay(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p"})
	put := func(version int) {
		if _, err := s.PutKey(t.Context(), versioned("a", version)); err != nil {
			t.Fatal(err)
		}
	}
	put(1)
	g := s.parts[0].keyReads
	hold(g)
	early := &batchedCall{args: []string{nameHash("a")}}
	g.begin(early)
	g.together(g.next())
	put(2) // while the answer to the first is on its way
	late := &batchedCall{args: early.args}
	g.begin(late)
	g.run()
	for want, c := range map[string]*batchedCall{"1": early, "2": late} {
		m, err := g.wait(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := m.ToString()
		if k, err := parseKey(text); err != nil || k.Fingerprint != want {
			t.Errorf("a read gave %+v, %v, want version %s", k, err, want)
		}
	}
}
