package queuetest

import (
	"fmt"
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
	got, err := s.Key(s.t.Context(), want.ID)
	if err != nil {
		s.t.Fatalf("Key(%s): %v", want.ID, err)
	}
	s.near("created", time.Now(), got.CreatedAt)
	want.CreatedAt = got.CreatedAt
	s.same("key", want, got)
}

func storesKeys(s *suite) {
	_, err := s.Key(s.t.Context(), keyID)
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
	_, err := s.Key(s.t.Context(), keyID)
	s.is("Key after DeleteKey", err, queue.ErrNotFound)
	s.is("second DeleteKey", s.DeleteKey(s.t.Context(), keyID), queue.ErrNotFound)
	s.key(testKey("other"))
	list, err := s.Keys(s.t.Context(), queue.Page{Limit: 10})
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
		list, err := s.Keys(s.t.Context(), p)
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
