package queuetest

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/postrider/postrider/queue"
)

var keyCases = []testCase{
	{name: "are stored and replaced", run: storesKeys},
	{name: "are removed", run: deletesKeys},
	{name: "are listed by ID", run: listsKeys},
	{name: "wake what waits for them", run: keyWakes},
	{name: "wake nothing else", run: otherKeyWakesNothing},
	{name: "wake what was taken before they came", run: keyCameMeanwhile},
	{name: "are resealed", run: resealsKeys},
	{name: "are resealed while others replace them", run: resealsTogether},
}

func testKey(id string) queue.Key {
	return queue.Key{
		ID: id, Algorithm: "rsa", PublicPEM: "-----BEGIN PUBLIC KEY-----\n" + id, Fingerprint: "SHA256:" + id, Sealed: []byte("\x00\xffsealed " + id),
	}
}

func (s *suite) putKey(id string) {
	s.t.Helper()
	if _, err := s.PutKey(s.t.Context(), testKey(id)); err != nil {
		s.t.Fatalf("PutKey(%s): %v", id, err)
	}
}

// key checks that a key is stored, as it was put.
func (s *suite) key(want queue.Key) {
	s.t.Helper()
	got, err := s.Key(s.t.Context(), want.ID, want.Pin)
	if err != nil {
		s.t.Fatalf("Key(%s): %v", want.ID, err)
	}
	s.near("created", time.Now(), got.CreatedAt)
	want.CreatedAt = got.CreatedAt
	s.same("key", want, got)
}

func storesKeys(s *suite) {
	_, err := s.Key(s.t.Context(), keyID, "")
	s.is("Key of an unknown ID", err, queue.ErrNotFound)
	old, replaced := testKey(keyID), testKey(keyID)
	replaced.Algorithm, replaced.Sealed = "ed25519", []byte("new")
	for _, want := range []struct {
		key     queue.Key
		created bool
	}{{old, true}, {old, false}, {replaced, false}, {testKey("other"), true}} {
		created, err := s.PutKey(s.t.Context(), want.key)
		if err != nil || created != want.created {
			s.t.Errorf("PutKey(%s) = %t, %v, want %t", want.key.ID, created, err, want.created)
		}
		s.key(want.key)
	}
	s.key(replaced)
}

func deletesKeys(s *suite) {
	s.is("DeleteKey of an unknown ID", s.DeleteKey(s.t.Context(), keyID), queue.ErrNotFound)
	s.putKey(keyID)
	s.putKey("other")
	s.is("DeleteKey", s.DeleteKey(s.t.Context(), keyID), nil)
	_, err := s.Key(s.t.Context(), keyID, "")
	s.is("Key after DeleteKey", err, queue.ErrNotFound)
	s.is("second DeleteKey", s.DeleteKey(s.t.Context(), keyID), queue.ErrNotFound)
	s.key(testKey("other"))
	list, err := s.Keys(s.t.Context(), queue.KeyFilter{}, queue.Page{Limit: 10})
	if err != nil || len(list.Items) != 1 {
		s.t.Errorf("Keys after DeleteKey gave %+v, %v", list, err)
	}
	created, err := s.PutKey(s.t.Context(), testKey(keyID))
	if err != nil || !created {
		s.t.Errorf("PutKey after DeleteKey = %t, %v", created, err)
	}
}

func listsKeys(s *suite) {
	var want []string
	for _, i := range []int{3, 1, 4, 0, 2} {
		s.putKey(fmt.Sprintf("https://app.example/users/%d#main-key", i))
	}
	for i := range 5 {
		want = append(want, fmt.Sprintf("https://app.example/users/%d#main-key", i))
	}
	s.pages(want, func(p queue.Page) (names []string, next string, err error) {
		list, err := s.Keys(s.t.Context(), queue.KeyFilter{}, p)
		for _, k := range list.Items {
			stored := testKey(k.ID)
			stored.CreatedAt = k.CreatedAt
			s.same("key listed", stored, k)
			names = append(names, k.ID)
		}
		return names, list.Next, err
	})
}

func keyWakes(s *suite) {
	id := s.put("1", "a.example")
	l := s.lease("a.example")
	s.settle(l, waitKey(s.one(l, "1")))
	s.take(l)
	s.finish(l)
	s.offers()
	s.take(s.lease("a.example"))
	s.settlement(s.takeNothing("a.example"), queue.Settlement{Release: true})
	s.counts(id, queue.Counts{Pending: 1})
	s.due(10)
	s.drain()
	s.putKey(keyID)
	s.woken("PutKey")
	s.offers("a.example")
	l = s.lease("a.example")
	d := s.one(l, "1")
	s.same("attempts", 0, d.Attempts)
	s.finish(l, delivered(d))
	s.counts(id, queue.Counts{Delivered: 1})
}

func otherKeyWakesNothing(s *suite) {
	names := s.fill("a.example", 2)
	l := s.lease("a.example")
	ds := s.take(l, names...)
	s.finish(l, waitKey(ds[names[0]]), retry(ds[names[1]], time.Hour))
	s.putKey("other")
	s.offers()
	s.putKey(keyID)
	s.one(s.lease("a.example"), names[0])
}

// keyCameMeanwhile covers the race that would leave a delivery waiting for a key that is there.
func keyCameMeanwhile(s *suite) {
	s.put("1", "a.example")
	l := s.lease("a.example")
	d := s.one(l, "1")
	s.putKey(keyID)
	s.finish(l, waitKey(d))
	s.offers("a.example")
	s.one(s.lease("a.example"), "1")
}

// sealedAgain is a key sealed once more, with text in it.
func sealedAgain(id, text string) queue.Reseal {
	return queue.Reseal{Name: id, Old: testKey(id).Sealed, New: []byte("\x00\xffagain " + text)}
}

func (s *suite) reseal(keys ...queue.Reseal) int {
	s.t.Helper()
	n, err := s.ResealKeys(s.t.Context(), keys)
	if err != nil {
		s.t.Fatalf("ResealKeys: %v", err)
	}
	return n
}

// resealsKeys covers what may have happened to a key since it was read, and that a delivery waits on.
func resealsKeys(s *suite) {
	s.put("1", "a.example")
	l := s.lease("a.example")
	s.finish(l, waitKey(s.one(l, "1")))
	for _, id := range []string{"plain", "replaced", "removed", "back"} {
		s.putKey(id)
	}
	created, err := s.Key(s.t.Context(), "plain", "")
	s.is("Key", err, nil)
	replaced := testKey("replaced")
	replaced.Sealed = []byte("other")
	_, err = s.PutKey(s.t.Context(), replaced)
	s.is("PutKey", err, nil)
	for _, id := range []string{"removed", "back"} {
		s.is("DeleteKey", s.DeleteKey(s.t.Context(), id), nil)
	}
	s.putKey("back")
	time.Sleep(second / 10) // so that a new time of creation would show
	s.same("keys resealed of none", 0, s.reseal())
	s.same("keys resealed", 2, s.reseal(
		sealedAgain("plain", "1"), sealedAgain("replaced", "1"), sealedAgain("removed", "1"), sealedAgain("back", "1"), sealedAgain("unknown", "1")))
	s.same("keys resealed by a caller that read them before", 0, s.reseal(sealedAgain("plain", "2")))
	created.Sealed = sealedAgain("plain", "1").New
	s.offers() // nothing is due for it
	check := func() {
		s.t.Helper()
		got, err := s.Key(s.t.Context(), "plain", "")
		s.is("Key", err, nil)
		s.same("key resealed", created, got)
		s.key(replaced)
		for _, id := range []string{"removed", "unknown"} {
			_, err = s.Key(s.t.Context(), id, "")
			s.is("Key that is gone", err, queue.ErrNotFound)
		}
		list, err := s.Keys(s.t.Context(), queue.KeyFilter{}, queue.Page{Limit: 10})
		if err != nil || len(list.Items) != 3 {
			s.t.Errorf("Keys gave %+v, %v", list, err)
		}
		for _, k := range list.Items {
			if k.ID == "plain" {
				s.same("key listed", created, k)
			}
		}
	}
	check()
	s.reopen()
	check()
}

// resealsTogether has keys replaced again and again while others reseal them: the last replacement of a key wins.
func resealsTogether(s *suite) {
	const keys, rounds, sealers = 5, 100, 3
	inRound := func(id string, round int) queue.Key {
		k := testKey(id)
		k.Sealed = fmt.Appendf(nil, "round %d", round)
		return k
	}
	var putting, sealing sync.WaitGroup
	ctx, done := context.WithCancel(s.t.Context())
	for i := range keys {
		id := fmt.Sprint("key", i)
		s.putKey(id)
		putting.Go(func() {
			for round := range rounds {
				want := inRound(id, round)
				if _, err := s.PutKey(s.t.Context(), want); err != nil {
					s.t.Errorf("PutKey: %v", err)
				}
				got, err := s.Key(s.t.Context(), id, "")
				if err != nil || !bytes.HasSuffix(got.Sealed, want.Sealed) {
					s.t.Errorf("after %s was put there is %s, error %v", want.Sealed, got.Sealed, err)
				}
			}
		})
	}
	for range sealers {
		sealing.Go(func() {
			for ctx.Err() == nil {
				s.resealAll()
			}
		})
	}
	putting.Wait()
	done()
	sealing.Wait()
	s.resealAll()
	for i := range keys {
		want := inRound(fmt.Sprint("key", i), rounds-1)
		want.Sealed = append([]byte("again "), want.Sealed...)
		s.key(want)
	}
}

// resealAll reseals the keys that are not resealed yet.
func (s *suite) resealAll() {
	list, err := s.Keys(s.t.Context(), queue.KeyFilter{}, queue.Page{Limit: 10})
	if err != nil {
		s.t.Errorf("Keys: %v", err)
		return
	}
	var keys []queue.Reseal
	for _, k := range list.Items {
		if !bytes.HasPrefix(k.Sealed, []byte("again ")) {
			keys = append(keys, queue.Reseal{Name: k.Name(), Old: k.Sealed, New: append([]byte("again "), k.Sealed...)})
		}
	}
	if _, err := s.ResealKeys(s.t.Context(), keys); err != nil {
		s.t.Errorf("ResealKeys: %v", err)
	}
}
