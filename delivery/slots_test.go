package delivery

import (
	"math/rand/v2"
	"testing"
)

func TestSuspectsGetHalfOfTheSlots(t *testing.T) {
	s := newSlots(10)
	n, suspects := s.reserve(64)
	if n != 10 || suspects != 5 {
		t.Fatalf("reserved %d slots, %d for suspects; want 10 and 5", n, suspects)
	}
	s.release(5, 0) // five suspects are at work
	if n, suspects = s.reserve(64); n != 5 || suspects != 0 {
		t.Errorf("reserved %d slots, %d for suspects; want 5 and 0", n, suspects)
	}
	s.release(5, 0)
	if s.grow(true) {
		t.Error("a suspect's turn grew beyond the half")
	}
	if !s.grow(false) {
		t.Error("another turn could not grow")
	}
}

func TestOneSlotServesSuspectsToo(t *testing.T) {
	if n, suspects := newSlots(1).reserve(64); n != 1 || suspects != 1 {
		t.Errorf("reserved %d slots, %d for suspects; want 1 and 1", n, suspects)
	}
}

func TestATurnDoesNotGrowWhileOthersWait(t *testing.T) {
	s := newSlots(4)
	s.reserve(4)
	if s.wanted(false) {
		t.Error("slots are wanted before anybody asked in vain")
	}
	s.reserve(4) // gets nothing
	s.release(1, 0)
	if s.grow(false) {
		t.Error("a turn grew though the scheduler waits")
	}
	if !s.wanted(false) {
		t.Error("slots are not wanted though the scheduler waits")
	}
	if n, _ := s.reserve(4); n != 1 {
		t.Errorf("the scheduler got %d slots, want 1", n)
	}
}

func TestReclassTellsWhenSuspectsExceedTheirHalf(t *testing.T) {
	s := newSlots(4)
	s.reserve(4)
	s.release(0, 2) // all four are healthy
	if !s.reclass(2, true) {
		t.Error("two of four can't be suspect")
	}
	if s.reclass(1, true) {
		t.Error("three of four can be suspect")
	}
	if !s.reclass(3, false) {
		t.Error("suspects could not recover")
	}
	if used, suspects := s.inUse(); used != 4 || suspects != 0 {
		t.Errorf("%d slots in use, %d by suspects; want 4 and 0", used, suspects)
	}
}

// Whatever turns do, no more slots are out than there are, and suspects get none beyond their half.
func TestSlotsAreNeverOverdrawn(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		s := newSlots(1 + rng.IntN(9))
		healthy, suspect := 0, 0
		for range 500 {
			switch rng.IntN(4) {
			case 0:
				n, m := s.reserve(1 + rng.IntN(5))
				keep := rng.IntN(n + 1)
				keepSuspects := rng.IntN(min(keep, m) + 1)
				s.release(n-keep, m-keepSuspects)
				healthy, suspect = healthy+keep-keepSuspects, suspect+keepSuspects
			case 1:
				if healthy > 0 {
					s.release(1, 0)
					healthy--
				}
			case 2:
				if suspect > 0 {
					s.release(1, 1)
					suspect--
				}
			case 3:
				if asSuspect := rng.IntN(2) == 0; s.grow(asSuspect) {
					if asSuspect {
						suspect++
					} else {
						healthy++
					}
				}
			}
			if used, suspects := s.inUse(); used != healthy+suspect || suspects != suspect || used > s.total || suspects > s.suspects {
				t.Fatalf("seed %d: %d in use, %d by suspects, of %d and %d; want %d and %d", seed, used, suspects, s.total, s.suspects,
					healthy+suspect, suspect)
			}
		}
	}
}
