package delivery

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/queue"
)

// claims claims n slots, each for a host of a group of its own, and fails the test unless it gets them.
func claims(t *testing.T, s *slots, n int, suspect bool) (shares []*share) {
	t.Helper()
	for i := range n {
		sh := s.claim("host", suspect, []string{string(rune('a' + i))})
		if sh == nil {
			t.Fatalf("claimed %d slots of %d", i, n)
		}
		shares = append(shares, sh)
	}
	return shares
}

func TestSuspectsGetHalfOfTheSlots(t *testing.T) {
	s := newSlots(10, 8)
	if n, suspects := s.reserve(64); n != 10 || suspects != 5 {
		t.Fatalf("reserved %d slots, %d for suspects; want 10 and 5", n, suspects)
	}
	if used, _ := s.inUse(); used != 0 {
		t.Errorf("%d slots are in use by nothing but a reservation", used)
	}
	dead := claims(t, s, 5, true)
	if s.claim("host", true, []string{"more"}) != nil {
		t.Error("a suspect got a slot beyond the half")
	}
	s.unreserve()
	if n, suspects := s.reserve(64); n != 5 || suspects != 0 {
		t.Errorf("reserved %d slots, %d for suspects; want 5 and 0", n, suspects)
	}
	well := claims(t, s, 1, false)
	s.unreserve()
	if s.grow(dead[0]) {
		t.Error("a suspect's turn grew beyond the half")
	}
	s.hungry = false
	if !s.grow(well[0]) {
		t.Error("another turn could not grow")
	}
}

func TestOneSlotServesSuspectsToo(t *testing.T) {
	if n, suspects := newSlots(1, 8).reserve(64); n != 1 || suspects != 1 {
		t.Errorf("reserved %d slots, %d for suspects; want 1 and 1", n, suspects)
	}
}

func TestATurnDoesNotGrowWhileOthersWait(t *testing.T) {
	s := newSlots(4, 8)
	s.reserve(4)
	turns := claims(t, s, 4, false)
	if s.wanted(turns[0]) {
		t.Error("slots are wanted before anybody asked in vain")
	}
	s.reserve(4) // gets nothing
	s.release(turns[0], 1)
	if s.grow(turns[1]) {
		t.Error("a turn grew though the scheduler waits")
	}
	if !s.wanted(turns[1]) {
		t.Error("slots are not wanted though the scheduler waits")
	}
	if n, _ := s.reserve(4); n != 1 {
		t.Errorf("the scheduler got %d slots, want 1", n)
	}
	if s.grow(turns[1]) {
		t.Error("a turn grew by a slot that is reserved")
	}
}

func TestReclassTellsWhenSuspectsExceedTheirHalf(t *testing.T) {
	s := newSlots(4, 8)
	s.reserve(4)
	turns := claims(t, s, 4, false)
	s.unreserve()
	for i, want := range []bool{true, true, false} {
		if got := s.reclass(turns[i], true); got != want {
			t.Errorf("turn %d became suspect within the bounds: %t, want %t", i, got, want)
		}
	}
	for _, sh := range turns {
		if !s.reclass(sh, false) {
			t.Error("a suspect could not recover")
		}
	}
	if used, suspects := s.inUse(); used != 4 || suspects != 0 || len(s.held) != 0 {
		t.Errorf("%d slots in use, %d by suspects of %v; want 4 and 0", used, suspects, s.held)
	}
}

// Suspects of one group get an eighth of the slots, whether it is a group by name or by address; hosts that are well
// get what they can.
func TestAGroupOfSuspectsGetsAnEighthOfTheSlots(t *testing.T) {
	s := newSlots(64, 1)
	s.reserve(64)
	if got := newSlots(8, 4).group; got != 4 {
		t.Errorf("a group may hold %d of 8 slots, want as many as one host", got)
	}
	var evil []*share
	for i := range 8 {
		groups := []string{"evil.com"}
		if i > 3 { // others are of other domains, at the same address
			groups = []string{string(rune('a' + i))}
		}
		evil = append(evil, s.claim("host", true, groups))
		if !s.enter(evil[i], "192.0.2.1") {
			t.Fatalf("suspect %d may not go to the address", i)
		}
	}
	if s.claim("host", true, []string{"new.example", "192.0.2.1"}) != nil {
		t.Error("a suspect got a slot of a full group")
	}
	other := s.claim("host", true, []string{"evil.com"})
	if other == nil || s.enter(other, "192.0.2.1") || !s.enter(other, "192.0.2.2") {
		t.Error("a suspect went to an address that is full, or was kept from another one")
	}
	well := s.claim("host", false, []string{"well.example"})
	if !s.enter(well, "192.0.2.1") {
		t.Fatal("a host that is well may not go to the address")
	}
	if s.reclass(well, true) {
		t.Error("a host became suspect without a word that its address is full")
	}
	s.unreserve()
	for _, sh := range append(evil, other, well) {
		s.release(sh, sh.n)
	}
	if used, suspects := s.inUse(); used != 0 || suspects != 0 || len(s.held) != 0 {
		t.Errorf("%d slots in use, %d by suspects of %v; want none", used, suspects, s.held)
	}
}

// A host that has the slots of its group makes room when others of the group find none, and until they had time to come
// again.
func TestCrowdedGroupsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(64, 2)
		s.reserve(64)
		groups := []string{"crowded.com"}
		sh := s.claim("one", true, groups)
		s.unreserve()
		for s.grow(sh) {
		}
		if sh.n != 8 || s.wanted(sh) {
			t.Errorf("it grew to %d slots; they are wanted: %t", sh.n, s.wanted(sh))
		}
		s.reserve(64)
		if s.claim("two", true, groups) != nil || !s.wanted(sh) {
			t.Error("another host got a slot, or the first one does not know")
		}
		s.release(sh, 7)
		if s.grow(sh) {
			t.Error("it grew by what others wait for")
		}
		s.ending(sh)
		s.release(sh, 1)
		if s.claim("one", true, groups) != nil || s.claim("two", true, groups) == nil {
			t.Error("the first host got another turn, or the second one none")
		}
		time.Sleep(2 * queue.OfferTTL)
		if sh = s.claim("one", true, groups); sh == nil || s.wanted(sh) {
			t.Error("the first host gets no turn though others had theirs, or has to give it back")
		}
		s.unreserve()
		if !s.grow(sh) {
			t.Error("it can't grow again though no host waits")
		}
	})
}

// The addresses that one turn goes to are bounded: it is counted with the latest.
func TestATurnThatRoams(t *testing.T) {
	s := newSlots(64, 8)
	s.reserve(1)
	sh := s.claim("host", true, []string{"roams.example"})
	for i := range 100 {
		if !s.enter(sh, string(rune('A'+i))) {
			t.Fatalf("address %d is full", i)
		}
	}
	if len(sh.groups) != 1+maxAddrs || len(s.held) != len(sh.groups) || sh.groups[0] != "roams.example" {
		t.Errorf("it counts for %v, and is counted with %v", sh.groups, s.held)
	}
}

// However turns follow, no more slots are out than there are, suspects get none beyond their half, and a group of them
// none beyond its part.
func TestSlotsAreNeverOverdrawn(t *testing.T) {
	groups := []string{"a", "b", "c", "d", "e"}
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		s := newSlots(1+rng.IntN(40), 1)
		var turns []*share
		for range 500 {
			switch at := rng.IntN(len(turns) + 1); {
			case at == len(turns):
				s.reserve(1 + rng.IntN(5))
				for range rng.IntN(5) {
					if sh := s.claim("host", rng.IntN(2) == 0, []string{groups[rng.IntN(len(groups))]}); sh != nil {
						turns = append(turns, sh)
					}
				}
				s.unreserve()
			case rng.IntN(3) == 0:
				s.release(turns[at], turns[at].n)
				turns = append(turns[:at], turns[at+1:]...)
			case rng.IntN(2) == 0:
				s.enter(turns[at], groups[rng.IntN(len(groups))])
			default:
				s.grow(turns[at])
			}
			checkSlots(t, s, turns)
		}
	}
}

// checkSlots holds that slots count what turns hold, and are within their bounds.
func checkSlots(t *testing.T, s *slots, turns []*share) {
	t.Helper()
	used, suspects := 0, 0
	held := map[string]int{}
	for _, sh := range turns {
		used += sh.n
		if !sh.suspect {
			continue
		}
		suspects += sh.n
		for _, group := range sh.groups {
			held[group] += sh.n
		}
	}
	if s.used != used || s.suspectUsed != suspects || used > s.total || suspects > s.suspects || len(s.held) != len(held) {
		t.Fatalf("%+v counted, %d slots and %d of suspects are held", s, used, suspects)
	}
	for group, n := range held {
		if s.held[group] != n || n > s.group {
			t.Fatalf("group %s: %d slots are counted, %d held, and %d allowed", group, s.held[group], n, s.group)
		}
	}
}
