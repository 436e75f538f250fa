package queuetest

import (
	"time"

	"github.com/postrider/postrider/queue"
)

// keyUseCases are about deliveries that wait for a key or are pinned to one, and about keys that are removed when idle.
var keyUseCases = []testCase{
	{name: "count what waits for them", run: countsSigning},
	{name: "count what pends again", run: countsRevived},
	{name: "go when idle", run: retiresKey},
	{name: "go at once when nothing pends", run: retiresIdleKey},
	{name: "stay if they are put again", run: unretiresKey},
	{name: "are pinned beside the current one", run: pinsKey},
	{name: "that are pinned are waited for by name", run: waitsForPin},
	{name: "that are pinned go with their last delivery", run: dropsPin, days: true},
	{name: "are counted and go after a restart too", run: restartsKeyUse},
	{name: "that are pinned are sealed with another master key", run: resealsPin},
}

func signedBy(id, pin string) func(*queue.Submission) {
	return func(s *queue.Submission) { s.KeyID, s.Pin = id, pin }
}

// pinned returns another version of a key, to be kept beside the current one.
func pinned(id string) queue.Key {
	k := testKey(id)
	k.Fingerprint += " pinned"
	k.Pin, k.WhenIdle = k.Fingerprint, true
	k.Sealed = []byte("\x00\xffpinned " + id)
	return k
}

func (s *suite) put1(k queue.Key) {
	s.t.Helper()
	if _, err := s.PutKey(s.t.Context(), k); err != nil {
		s.t.Fatalf("PutKey(%s): %v", k.Name(), err)
	}
}

// signing checks how many deliveries wait to be signed by a key.
func (s *suite) signing(name string, want int) {
	s.t.Helper()
	list, err := s.Keys(s.t.Context(), queue.KeyFilter{Pinned: true}, queue.Page{Limit: 100})
	if err != nil {
		s.t.Fatalf("Keys: %v", err)
	}
	for _, k := range list.Items {
		if k.Name() == name {
			s.same("pending for "+name, want, k.Pending)
			return
		}
	}
	s.t.Errorf("there is no key %s", name)
}

// keyGone reports whether a key is there no more.
func (s *suite) keyGone(id, pin string) bool {
	_, err := s.Key(s.t.Context(), id, pin)
	if err != nil {
		s.is("Key", err, queue.ErrNotFound)
	}
	return err != nil
}

func countsSigning(s *suite) {
	s.putKey(keyID)
	s.putKey("other")
	s.signing(keyID, 0)
	s.put("1", "a.example", alsoTo("b.example", "c.example", "https://c.example/users/d"))
	id := s.put("2", "a.example", alsoTo("d.example"))
	s.put("3", "a.example", signedBy("other", ""))
	s.signing(keyID, 6)
	s.signing("other", 1)
	l := s.lease("a.example")
	taken := s.take(l, "1", "2", "3")
	s.signing(keyID, 6)
	s.finish(l, delivered(taken["1"]), retry(taken["2"], time.Hour), dead(taken["3"], queue.ReasonRejected))
	s.signing(keyID, 5)
	s.signing("other", 0)
	if _, err := s.Cancel(s.t.Context(), id); err != nil {
		s.t.Fatalf("Cancel: %v", err)
	}
	s.signing(keyID, 3)
	s.act("c.example", queue.Block)
	s.sweep()
	s.signing(keyID, 1)
}

func countsRevived(s *suite) {
	s.putKey(keyID)
	s.put("1", "a.example")
	l := s.lease("a.example")
	s.finish(l, dead(s.one(l, "1"), queue.ReasonRejected))
	s.signing(keyID, 0)
	if _, err := s.RetryDead(s.t.Context(), queue.DeadLetterChoice{}, ttl); err != nil {
		s.t.Fatalf("RetryDead: %v", err)
	}
	s.signing(keyID, 1)
}

func retiresKey(s *suite) {
	s.putKey(keyID)
	s.put("1", "a.example", alsoTo("b.example"))
	s.is("RetireKey", s.RetireKey(s.t.Context(), keyID), nil)
	s.sweep()
	if s.keyGone(keyID, "") {
		s.t.Fatal("the key is gone though something waits to be signed by it")
	}
	list, err := s.Keys(s.t.Context(), queue.KeyFilter{ID: keyID}, queue.Page{Limit: 10})
	if err != nil || len(list.Items) != 1 || !list.Items[0].WhenIdle {
		s.t.Errorf("Keys gave %+v, %v", list.Items, err)
	}
	for _, host := range []string{"a.example", "b.example"} {
		l := s.lease(host)
		s.finish(l, delivered(s.one(l, "1")))
	}
	s.sweepUntil(func() bool { return s.keyGone(keyID, "") })
	s.is("RetireKey of a key that is gone", s.RetireKey(s.t.Context(), keyID), queue.ErrNotFound)
}

func retiresIdleKey(s *suite) {
	s.is("RetireKey of an unknown ID", s.RetireKey(s.t.Context(), keyID), queue.ErrNotFound)
	s.putKey(keyID)
	s.putKey("other")
	s.is("RetireKey", s.RetireKey(s.t.Context(), keyID), nil)
	s.sweepUntil(func() bool { return s.keyGone(keyID, "") })
	s.key(testKey("other"))
}

func unretiresKey(s *suite) {
	s.putKey(keyID)
	s.put("1", "a.example")
	s.is("RetireKey", s.RetireKey(s.t.Context(), keyID), nil)
	s.putKey(keyID)
	s.putKey("other")
	s.is("RetireKey", s.RetireKey(s.t.Context(), "other"), nil)
	l := s.lease("a.example")
	s.finish(l, delivered(s.one(l, "1")))
	s.sweepUntil(func() bool { return s.keyGone("other", "") })
	s.key(testKey(keyID))
}

func pinsKey(s *suite) {
	pin := pinned(keyID)
	s.put1(pin)
	s.key(pin)
	if !s.keyGone(keyID, "") {
		s.t.Error("a pinned key is the current one")
	}
	s.putKey(keyID)
	s.putKey(keyID + "2")
	s.key(testKey(keyID))
	s.key(pin)
	s.put("1", "a.example", signedBy(keyID, pin.Pin))
	s.signing(pin.Name(), 1)
	s.signing(keyID, 0)
	s.same("pin as taken", pin.Pin, s.one(s.lease("a.example"), "1").Activity.Pin)
	for filter, want := range map[queue.KeyFilter]int{{}: 2, {ID: keyID}: 1, {Pinned: true}: 3, {ID: keyID, Pinned: true}: 2, {ID: keyID[:5]}: 0} {
		for _, limit := range []int{1, 10} {
			var names []string
			for p := (queue.Page{Limit: limit}); ; {
				list, err := s.Keys(s.t.Context(), filter, p)
				if err != nil {
					s.t.Fatalf("Keys(%+v): %v", filter, err)
				}
				for _, k := range list.Items {
					names = append(names, k.Name())
				}
				if p.Cursor = list.Next; p.Cursor == "" {
					break
				}
			}
			if len(names) != want {
				s.t.Errorf("Keys(%+v), %d at a time, gave %q, want %d", filter, limit, names, want)
			}
		}
	}
	s.is("DeleteKey", s.DeleteKey(s.t.Context(), keyID), nil)
	s.key(pin)
}

func waitsForPin(s *suite) {
	pin := pinned(keyID)
	s.put("1", "a.example", signedBy(keyID, pin.Pin))
	l := s.lease("a.example")
	s.finish(l, waitKey(s.one(l, "1")))
	s.putKey(keyID)
	s.take(s.lease("a.example"))
	s.put1(pin)
	s.one(s.lease("a.example"), "1")
}

func restartsKeyUse(s *suite) {
	pin := pinned(keyID)
	s.put1(pin)
	s.putKey(keyID)
	s.put("1", "a.example", signedBy(keyID, pin.Pin))
	l := s.lease("a.example")
	s.finish(l, dead(s.one(l, "1"), queue.ReasonRejected))
	s.put("2", "b.example")
	s.is("RetireKey", s.RetireKey(s.t.Context(), keyID), nil)
	s.reopen()
	if _, err := s.RetryDead(s.t.Context(), queue.DeadLetterChoice{}, ttl); err != nil {
		s.t.Fatalf("RetryDead: %v", err)
	}
	s.reopen()
	s.key(pin)
	s.signing(pin.Name(), 1)
	s.signing(keyID, 1)
	l = s.lease("a.example")
	s.finish(l, waitKey(s.one(l, "1")))
	s.one(s.lease("a.example"), "1") // it did not wait: its key is there
	l = s.lease("b.example")
	s.finish(l, delivered(s.one(l, "2")))
	s.sweepUntil(func() bool { return s.keyGone(keyID, "") })
}

func dropsPin(s *suite) {
	pin := pinned(keyID)
	s.put1(pin)
	s.sweep()
	if s.keyGone(keyID, pin.Pin) {
		s.t.Fatal("a pinned key went before the activity that it signs could come")
	}
	s.put("1", "a.example", signedBy(keyID, pin.Pin))
	time.Sleep(2 * queue.PinGrace)
	s.sweep()
	if s.keyGone(keyID, pin.Pin) {
		s.t.Fatal("a pinned key went before its delivery")
	}
	l := s.lease("a.example")
	s.finish(l, delivered(s.one(l, "1")))
	s.sweep()
	if !s.keyGone(keyID, pin.Pin) {
		s.t.Error("a pinned key stayed after its last delivery")
	}
}

func resealsPin(s *suite) {
	pin := pinned(keyID)
	s.put1(pin)
	s.putKey(keyID)
	n, err := s.ResealKeys(s.t.Context(), []queue.Reseal{{Name: pin.Name(), Old: pin.Sealed, New: []byte("new")}})
	if err != nil || n != 1 {
		s.t.Fatalf("ResealKeys = %d, %v", n, err)
	}
	pin.Sealed = []byte("new")
	s.key(pin)
	s.key(testKey(keyID))
}
