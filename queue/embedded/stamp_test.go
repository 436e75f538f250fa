package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/postrider/postrider/queue"
)

// settled waits until the writer has done what comes after the last write.
func settled(t *testing.T, s *Store) {
	t.Helper()
	if err := s.writer.do(bg, func(*tx) error { return nil }, nil); err != nil {
		t.Fatal(err)
	}
}

// killed returns a folder as it is after a node on a store was killed just now.
func killed(t *testing.T, s *Store) string {
	t.Helper()
	settled(t, s)
	return leftBy(t, filepath.Dir(s.lock.Path()))
}

// limitWAL changes how many pages the WAL of a store may take.
func limitWAL(s *Store, pages uint32) {
	err := s.writer.do(bg, func(*tx) error {
		s.db.stamps.limit, s.db.stamps.emptyAt = pages, pages
		return nil
	}, nil)
	if err != nil {
		panic(err)
	}
}

// leftBy copies a folder.
func leftBy(t *testing.T, dir string) string {
	t.Helper()
	left := filepath.Join(t.TempDir(), "left")
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return left
}

// restore puts a backup in the place of a folder's database, and leaves what else is there.
func restore(t *testing.T, backup, dir string) {
	t.Helper()
	text, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "postrider.db"), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// activities returns how many a store has.
func activities(t *testing.T, s *Store) int {
	t.Helper()
	stats, err := s.Stats(bg)
	if err != nil {
		t.Fatal(err)
	}
	return stats.Activities
}

// backups are ways to copy the database of a store that is in use.
var backups = map[string]func(t *testing.T, dir, file string){
	"our own": func(t *testing.T, dir, file string) {
		if err := Backup(t.Context(), dir, file); err != nil {
			t.Fatal(err)
		}
	},
	"VACUUM INTO": func(t *testing.T, dir, file string) {
		c, err := sqlite.OpenConn(filepath.Join(dir, "postrider.db"), sqlite.OpenReadWrite)
		if err == nil {
			err = errors.Join(sqlitex.ExecuteTransient(c, "VACUUM INTO ?", &sqlitex.ExecOptions{Args: []any{file}}), c.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	},
}

// TestRestoreBesideWAL restores backups made at several moments over the database of a node that was killed. With its WAL
// there the store is refused; without, it is what the backup holds.
func TestRestoreBesideWAL(t *testing.T) {
	for name, backup := range backups {
		t.Run(name, func(t *testing.T) {
			dir, copies := t.TempDir(), t.TempDir()
			n := 0
			write := func(s *Store, count int) {
				for range count {
					n++
					submit(s, fmt.Sprintf("https://app.example/%d", n), "a.example")
				}
			}
			held := map[string]int{} // backups, by how many activities each holds
			keep := func() {
				file := filepath.Join(copies, fmt.Sprint(len(held)))
				backup(t, dir, file)
				held[file] = n
			}
			s := open(t, dir)
			keep() // of an idle store that is new
			write(s, 3)
			keep()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			keep() // of a store that nobody has open
			s = open(t, dir)
			keep()
			limitWAL(s, 10)
			write(s, 50)
			settled(t, s) // a backup must not keep the WAL from being emptied
			keep()
			limitWAL(s, walPages)
			write(s, 5)
			keep() // of the same WAL as what is there at the kill
			write(s, 5)
			left := killed(t, s)
			for file, count := range held {
				here := leftBy(t, left)
				restore(t, file, here)
				if _, err := Open(here, Options{}); !errors.Is(err, errReplaced) || !strings.Contains(err.Error(), "delete "+here) {
					t.Fatalf("a backup of %d activities beside the WAL of %d: %v", count, n, err)
				}
				for _, beside := range []string{"-wal", "-shm"} {
					if err := os.Remove(filepath.Join(here, "postrider.db"+beside)); err != nil {
						t.Fatal(err)
					}
				}
				if got := activities(t, open(t, here)); got != count {
					t.Errorf("a backup of %d activities holds %d", count, got)
				}
			}
			if got := activities(t, open(t, left)); got != n {
				t.Errorf("the store that was left holds %d activities, want %d", got, n)
			}
		})
	}
}

// TestRestoreOfStoppedStore restores a copy of the file of a store that was stopped, of which nothing was moved out of the
// WAL since: what it lies beside would make the newer store of it.
func TestRestoreOfStoppedStore(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	for range 2 { // a store that is new, and one that is not
		s := open(t, dir)
		submit(s, "https://app.example/"+copied, "a.example")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		copied = leftBy(t, dir)
		s = open(t, dir)
		submit(s, "https://app.example/later/"+copied, "a.example")
		left := killed(t, s)
		restore(t, filepath.Join(copied, "postrider.db"), left)
		if _, err := Open(left, Options{}); !errors.Is(err, errReplaced) {
			t.Errorf("the copy beside a newer WAL: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRestoreBesideNextWAL restores backups that were made just before and after the WAL was moved into the database, or
// was moved in part, because somebody read it.
func TestRestoreBesideNextWAL(t *testing.T) {
	for name, backup := range backups {
		for _, read := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, read=%t", name, read), func(t *testing.T) {
				dir, before := t.TempDir(), filepath.Join(t.TempDir(), "before")
				after := filepath.Join(t.TempDir(), "after")
				s := open(t, dir)
				submit(s, "https://app.example/1", "a.example")
				backup(t, dir, before)
				submit(s, "https://app.example/2", "a.example")
				if read {
					reading(t, s, func() { moveWAL(t, s, false) })
				} else {
					moveWAL(t, s, true)
				}
				backup(t, dir, after)
				submit(s, "https://app.example/3", "a.example")
				left := killed(t, s)
				for _, file := range []string{before, after} {
					here := leftBy(t, left)
					restore(t, file, here)
					if _, err := Open(here, Options{}); !errors.Is(err, errReplaced) {
						t.Errorf("the backup %s: %v", filepath.Base(file), err)
					}
				}
				moveWAL(t, s, true)
				if got := activities(t, open(t, killed(t, s))); got != 3 {
					t.Errorf("the store that was left then holds %d activities", got)
				}
			})
		}
	}
}

// moveWAL has a store try once to move its WAL, which takes a few pages, and checks whether it could.
func moveWAL(t *testing.T, s *Store, could bool) {
	t.Helper()
	settled(t, s)
	was := s.db.stamps.inFile
	limitWAL(s, 5)
	limitWAL(s, walPages)
	if moved := s.db.stamps.inFile != was; moved != could {
		t.Fatalf("moved the WAL: %t, want %t", moved, could)
	}
}

// reading runs f while a reader needs the WAL.
func reading(t *testing.T, s *Store, f func()) {
	t.Helper()
	err := s.db.read(bg, func(c *sqlite.Conn) error {
		for _, query := range []string{"BEGIN", "SELECT count(*) FROM activities"} {
			if err := sqlitex.ExecuteTransient(c, query, nil); err != nil {
				return err
			}
		}
		f()
		return sqlitex.ExecuteTransient(c, "ROLLBACK", nil)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestKeepsItsOwnWAL checks that a store that was killed is opened whenever that was, and however often.
func TestKeepsItsOwnWAL(t *testing.T) {
	dir := t.TempDir()
	n := 0
	for round := range 5 {
		s := open(t, dir)
		limitWAL(s, 10)
		for i := range 30 {
			submit(s, fmt.Sprintf("https://app.example/%d/%d", round, i), "a.example")
			n++
			if got := activities(t, open(t, killed(t, s))); got != n {
				t.Fatalf("a store that was killed holds %d activities, want %d", got, n)
			}
		}
		dir = killed(t, s)
	}
}

// TestReaderKeepsWAL checks that what reads for long keeps the WAL from being emptied, that this holds up nobody, and that
// the store then is opened all the same.
func TestReaderKeepsWAL(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	limitWAL(s, 10)
	submit(s, "https://app.example/1", "a.example")
	reading(t, s, func() {
		for i := range 50 {
			submit(s, fmt.Sprintf("https://app.example/more/%d", i), "a.example")
		}
		if pages := s.db.stamps.pages(); pages < 50 {
			t.Errorf("the WAL takes %d pages while somebody reads it", pages)
		}
		if got := activities(t, open(t, killed(t, s))); got != 51 {
			t.Errorf("a store that was killed then holds %d activities", got)
		}
	})
	for i := range 50 {
		submit(s, fmt.Sprintf("https://app.example/later/%d", i), "a.example")
	}
	if pages := s.db.stamps.pages(); pages > 50 {
		t.Errorf("the WAL takes %d pages when nobody reads it any more", pages)
	}
}

// TestBackup checks what a backup is, and what is refused.
func TestBackup(t *testing.T) {
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "backup.db")
	s := open(t, dir)
	if _, err := s.PutKey(bg, queue.Key{ID: "k", Sealed: []byte("sealed")}); err != nil {
		t.Fatal(err)
	}
	submit(s, "https://app.example/1", "a.example")
	if err := Backup(bg, dir, file); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup is %v, %v", info, err)
	}
	if files, err := os.ReadDir(filepath.Dir(file)); err != nil || len(files) != 1 {
		t.Errorf("beside the backup there is %v, %v", files, err)
	}
	if err := Backup(bg, dir, file); err == nil || !strings.Contains(err.Error(), "there already") {
		t.Errorf("a backup over another: %v", err)
	}
	if err := Backup(bg, t.TempDir(), file+"2"); err == nil || !strings.Contains(err.Error(), "there is no store") {
		t.Errorf("a backup of nothing: %v", err)
	}
	again := t.TempDir()
	restore(t, file, again)
	restored := open(t, again)
	if k, err := restored.Key(bg, "k", ""); err != nil || string(k.Sealed) != "sealed" || activities(t, restored) != 1 {
		t.Errorf("restored is the key %+v, %v", k, err)
	}
}
