package embedded

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// A mark holds what it is made of.
func TestMark(t *testing.T) {
	for _, seq := range []int64{1, 1<<placeBits - 1, 1 << placeBits, 1<<39 - 1} {
		for _, hash := range []uint32{0, 1, 1<<markHashBits - 1} {
			m := markOf(hash, seq)
			if m < 0 || m.seq() != seq || m.hash() != hash {
				t.Errorf("the mark %d of %d and %d holds %d and %d", m, hash, seq, m.hash(), m.seq())
			}
		}
	}
}

// Marks that are written find the same activities as those in memory, with any number of spans between them.
func TestMarksAreFound(t *testing.T) {
	s := open(t, t.TempDir())
	random := rand.New(rand.NewPCG(1, 2))
	var all marks
	for seq := int64(1); seq < 40<<placeBits; seq += 1 + random.Int64N(1<<random.IntN(19))*random.Int64N(2) {
		for _, hash := range random.Perm(4)[:random.IntN(4)] {
			all = append(all, markOf(uint32(hash), seq))
		}
	}
	if err := s.writer.do(bg, func(tx *tx) error { return tx.insertMarks(all) }, nil); err != nil {
		t.Fatal(err)
	}
	for hash := range uint32(5) {
		for i, before := range []int64{1, 5, 1 << placeBits, 7<<placeBits + 1, 50 << placeBits} {
			var got []int64
			err := s.db.read(bg, func(c *sqlite.Conn) error {
				for next := before; next > 0; {
					var seqs []int64
					var err error
					if seqs, next, err = findMarks(c, hash, next, 1+i%2); err != nil {
						return err
					}
					got = append(got, seqs...)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(all.find(hash, before), got); diff != "" {
				t.Errorf("activities with the hash %d before %d (-in memory +in the database):\n%s", hash, before, diff)
			}
		}
	}
}

// writeMarks writes marks that are in memory.
func writeMarks(t *testing.T, s *Store, about int) {
	t.Helper()
	if err := s.writer.do(bg, func(tx *tx) error { return tx.writeMarks(about) }, nil); err != nil {
		t.Fatal(err)
	}
}

// marksKept returns how many marks are in the database, and how many in memory.
func marksKept(t *testing.T, s *Store) (stored, inMemory int) {
	t.Helper()
	err := s.db.read(bg, func(c *sqlite.Conn) (err error) {
		stored, _, err = one(c, (*sqlite.Stmt).ColumnInt, "SELECT count(*) FROM marks")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return stored, len(s.writer.ledger.marks)
}

// searched returns the URIs of the activities that pass a filter.
func searched(t *testing.T, s *Store, f queue.ActivityFilter) (uris []string) {
	t.Helper()
	for p := (queue.Page{Limit: 2}); ; {
		list, err := s.Activities(bg, f, p)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list.Items {
			uris = append(uris, a.URI)
		}
		if p.Cursor = list.Next; p.Cursor == "" {
			return uris
		}
	}
}

// A search finds all, however many marks are written, also after a restart.
func TestSearchWhileMarksAreWritten(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	want := submitSome(s, 5)
	for activities := range 6 {
		if activities > 0 {
			writeMarks(t, s, 1) // and the other one of its activity
		}
		checkSearch(t, s, want)
		if stored, inMemory := marksKept(t, s); stored != 2*activities || inMemory != 10-2*activities {
			t.Errorf("%d marks are stored and %d in memory, want those of %d activities stored, of 5", stored, inMemory, activities)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
		checkSearch(t, s, want)
	}
}

// submitSome stores some activities, and returns their URIs, the newest first.
func submitSome(s *Store, n int) (uris []string) {
	for i := range n {
		uri := fmt.Sprintf("https://app.example/%d", i)
		submit(s, uri, "a.example")
		uris = slices.Insert(uris, 0, uri)
	}
	return uris
}

// checkSearch searches for the activities of submitSome.
func checkSearch(t *testing.T, s *Store, want []string) {
	t.Helper()
	if diff := cmp.Diff(want, searched(t, s, queue.ActivityFilter{KeyID: "k"})); diff != "" {
		t.Errorf("activities of the key (-want +got):\n%s", diff)
	}
	for _, uri := range want {
		if diff := cmp.Diff([]string{uri}, searched(t, s, queue.ActivityFilter{URI: uri})); diff != "" {
			t.Errorf("activities with the URI (-want +got):\n%s", diff)
		}
	}
}

// Marks are written by themselves once there are many.
func TestManyMarksAreWritten(t *testing.T) {
	s := open(t, t.TempDir())
	importMany(t, s, marksAtOnce+10, func(i int, a *queue.Activity) { a.URI = fmt.Sprint("https://app.example/", i) })
	submitSome(s, 2) // the next transactions
	if stored, inMemory := marksKept(t, s); stored < marksAtOnce || stored > marksAtOnce+1 || stored+inMemory != marksAtOnce+14 {
		t.Errorf("%d marks are stored and %d in memory, want %d stored", stored, inMemory, marksAtOnce)
	}
	for _, i := range []int{0, 1, marksAtOnce - 1, marksAtOnce, marksAtOnce + 9} {
		if uris := searched(t, s, queue.ActivityFilter{URI: fmt.Sprint("https://app.example/", i)}); len(uris) == 0 {
			t.Errorf("activity %d is not found", i)
		}
	}
}

// Marks go with their activities, written or not.
func TestMarksAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		submitSome(s, 4)
		writeMarks(t, s, 4)
		for range 4 {
			deliverOne(s, "a.example", 1)
		}
		time.Sleep(25 * time.Hour)
		submit(s, "https://app.example/new", "a.example")
		if _, err := s.Sweep(bg); err != nil {
			t.Fatal(err)
		}
		if stored, inMemory := marksKept(t, s); stored+inMemory != 2 {
			t.Errorf("%d marks are stored and %d in memory, want 2 in all", stored, inMemory)
		}
		checkSearch(t, s, []string{"https://app.example/new"})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A database that is rebuilt gets its marks again.
func TestMarksAreRebuilt(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	want := submitSome(s, 5)
	writeMarks(t, s, 6)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(rebuildFile(filepath.Join(dir, "postrider.db")), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, _, err := openDamaged(dir)
	if err != nil {
		t.Fatal(err)
	}
	checkSearch(t, s, want)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
