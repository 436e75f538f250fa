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
	r := s.parts[0].reader
	r.running = true // as if one were under way
	var asking sync.WaitGroup
	for _, id := range ids {
		asking.Go(func() {
			k, err := s.Key(t.Context(), id)
			if k.Fingerprint != want[id] || errors.Is(err, queue.ErrNotFound) != (want[id] == "") {
				t.Errorf("Key of %s gave version %q, %v, want %q", id, k.Fingerprint, err, want[id])
			}
		})
	}
	for joined := 0; joined < len(want); time.Sleep(time.Millisecond) {
		r.mu.Lock()
		if r.next != nil {
			joined = len(r.next.hashes)
		}
		r.mu.Unlock()
	}
	if _, err := s.PutKey(t.Context(), versioned("a", 2)); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteKey(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	before := calls(t, server, "hmget")
	s.work.Go(r.run)
	asking.Wait()
	if n := calls(t, server, "hmget") - before; n != 1 {
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
	r := s.parts[0].reader
	r.running = true
	r.join(nameHash("a"))
	early := r.begin()
	keys, err := s.readKeys(t.Context(), r.p, early.hashes)
	if err != nil || keys[0].key.Fingerprint != "1" {
		t.Fatalf("the first read gave %+v, %v", keys, err)
	}
	put(2) // while its answer is on its way
	late, place := r.join(nameHash("a"))
	if late == early {
		t.Fatal("who asks now waits for the read that is under way")
	}
	r.run()
	<-late.done
	if k := late.keys[place]; k.err != nil || k.key.Fingerprint != "2" {
		t.Errorf("the next read gave %+v", k)
	}
}
