package embedded

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/postrider/postrider/queue"
)

const lockTTL = 30 * time.Second

var bg = context.Background()

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestAStoreInUseIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("opened twice: %v, want ErrLocked naming the folder", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
}

func TestAStoreOfANewerProgramIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if err := s.writer.do(bg, func(t *tx) error { return t.exec("PRAGMA user_version = 99") }, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("opened a store of version 99: %v", err)
	}
}

// TestAStoreWithOtherTablesIsRefused checks that a database of another build's schema, or of another program, is refused with
// a reason, and is not changed.
func TestAStoreWithOtherTablesIsRefused(t *testing.T) {
	for change, want := range map[string]string{
		"ALTER TABLE activities RENAME COLUMN older TO newer":             "TABLE activities",
		"ALTER TABLE hosts ADD COLUMN more TEXT":                          "TABLE hosts",
		"DROP TABLE positions":                                            "TABLE positions",
		"DROP INDEX dead_uri":                                             "INDEX dead_uri",
		"DROP INDEX dead_uri; CREATE INDEX dead_uri ON dead (uri)":        "INDEX dead_uri",
		"PRAGMA user_version = 0":                                         "another program's",
		"PRAGMA user_version = 0; DROP TABLE positions; DROP TABLE marks": "another program's",
	} {
		dir := t.TempDir()
		if err := open(t, dir).Close(); err != nil {
			t.Fatal(err)
		}
		inDatabase(t, dir, func(c *sqlite.Conn) error { return sqlitex.ExecuteScript(c, change+";", nil) })
		before := scriptOf(t, dir)
		for range 2 {
			_, err := Open(dir, Options{})
			if err == nil || !strings.Contains(err.Error(), "open store "+dir+": postrider.db: ") || !strings.Contains(err.Error(), want) ||
				!strings.Contains(err.Error(), "another folder") || strings.Contains(err.Error(), "\n") {
				t.Errorf("after %s: %v", change, err)
			}
		}
		if diff := cmp.Diff(before, scriptOf(t, dir)); diff != "" {
			t.Errorf("after %s, the refusal changed (-before +after):\n%s", change, diff)
		}
	}
}

// TestAStoreMayHaveMoreTables checks that a store is not refused for what an operator's tools leave in it.
func TestAStoreMayHaveMoreTables(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	submit(s, "https://app.example/1", "h.example")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	inDatabase(t, dir, func(c *sqlite.Conn) error {
		return sqlitex.ExecuteScript(c, "ANALYZE; CREATE INDEX mine ON hosts (state);", nil)
	})
	if st, err := open(t, dir).Stats(bg); err != nil || st.Pending != 1 {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestFilesAreForTheOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	s := open(t, dir)
	if _, err := MasterKeys(dir); err != nil {
		t.Fatal(err)
	}
	submit(s, "https://app.example/1", "h.example")
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) < 4 {
		t.Fatalf("files %v: %v", files, err)
	}
	for _, f := range append(files, dir) {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			t.Errorf("%s has mode %o", f, mode)
		}
	}
}

func TestMasterKeyLasts(t *testing.T) {
	dir := t.TempDir()
	first, err := MasterKeys(dir)
	if err != nil || len(first) != 1 || len(first[0]) != masterKeySize {
		t.Fatalf("%d keys: %v", len(first), err)
	}
	again, err := MasterKeys(dir)
	if err != nil || len(again) != 1 || string(again[0]) != string(first[0]) {
		t.Errorf("another key the second time: %v", err)
	}
	file := filepath.Join(dir, "master.key")
	made, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	newer := strings.Repeat("n", masterKeySize)
	write(base64.StdEncoding.EncodeToString([]byte(newer)) + "\n" + string(made))
	if both, err := MasterKeys(dir); err != nil || len(both) != 2 || string(both[0]) != newer || string(both[1]) != string(first[0]) {
		t.Errorf("%d keys of two: %v", len(both), err)
	}
	for _, bad := range []string{"c2hvcnQ=\n", string(made) + "c2hvcnQ=\n", "", "\n"} {
		write(bad)
		if _, err := MasterKeys(dir); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// One operation that fails must not take the others of its group with it.
func TestAFailedOperationFailsAlone(t *testing.T) {
	s := open(t, t.TempDir())
	bad := errors.New("bad")
	hold, held := make(chan struct{}), make(chan struct{})
	holding := sync.OnceFunc(func() { close(held) }) // it runs again when the group failed
	results := make(chan error, 3)
	go func() {
		results <- s.writer.do(bg, func(*tx) error { holding(); <-hold; return nil }, nil)
	}()
	<-held
	// These two wait, and so make one group with it.
	good := &op{run: func(t *tx) error { return t.exec("UPDATE meta SET delivered = delivered + 7") }, done: make(chan error, 1)}
	poison := &op{run: func(*tx) error { return bad }, done: make(chan error, 1)}
	s.writer.ops <- good
	s.writer.ops <- poison
	close(hold)
	if err := <-results; err != nil {
		t.Error(err)
	}
	if err := <-good.done; err != nil {
		t.Errorf("the good operation failed: %v", err)
	}
	if err := <-poison.done; !errors.Is(err, bad) {
		t.Errorf("the bad operation got %v", err)
	}
	var delivered int64
	if err := s.db.read(bg, func(c *sqlite.Conn) error {
		return each(c, "SELECT delivered FROM meta", nil, func(row *sqlite.Stmt) error {
			delivered = row.ColumnInt64(0)
			return nil
		})
	}); err != nil || delivered != 7 {
		t.Errorf("the good operation ran to %d, want 7 (once): %v", delivered, err)
	}
}

func TestAClosedStoreSaysSo(t *testing.T) {
	s := open(t, t.TempDir())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutKey(bg, queue.Key{ID: "k"}); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("wrote to a closed store: %v", err)
	}
	if _, err := s.Stats(bg); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("read a closed store: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

// A store that can't be written to any more is closed all the same.
func TestABrokenStoreIsClosed(t *testing.T) {
	s := open(t, t.TempDir())
	if err := each(s.db.conn, "PRAGMA query_only = 1", nil, func(*sqlite.Stmt) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutKey(bg, queue.Key{ID: "k"}); err == nil {
		t.Error("a store that is only read stored a key")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A full disk fails what is new, says so, and is over when there is room again.
func TestAFullStore(t *testing.T) {
	s := open(t, t.TempDir())
	limit := func(pages string) {
		t.Helper()
		if err := each(s.db.conn, "PRAGMA max_page_count = "+pages, nil, func(*sqlite.Stmt) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	limit("40")
	sub := &queue.Submission{
		Activity:   queue.Activity{ID: "018f0000-0000-7000-8000-000000000000", URI: "u", Body: make([]byte, 1<<20)},
		Recipients: []queue.Recipient{{Inbox: "https://h.example/inbox", Host: "h.example"}}, TTL: time.Hour,
	}
	if _, err := s.Enqueue(bg, sub); !errors.Is(err, queue.ErrFull) {
		t.Fatalf("a full store took it: %v", err)
	}
	if err := s.writer.lastError(); err == nil {
		t.Error("the store does not know that it is full")
	}
	if st, err := s.Stats(bg); err != nil || st.Activities != 0 || st.Pending != 0 {
		t.Errorf("something was stored: %+v, %v", st, err)
	}
	limit("100000")
	if err := s.Ready(bg); err != nil {
		t.Errorf("not ready though there is room: %v", err)
	}
	if r, err := s.Enqueue(bg, sub); err != nil || r.Accepted != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestSweepLooksWhenSomethingIsOld holds that what is finished goes when its time is over, with a transaction every five minutes meanwhile.
func TestSweepLooksWhenSomethingIsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		together(t, s, nothing, note(s, queue.Other, queue.Normal))
		d := takeAll(t, s, 1)[0]
		if _, err := s.Settle(bg, lease(1), queue.Settlement{Results: []queue.Result{{ID: d.ID, Verdict: queue.Delivered}}}, 0); err != nil {
			t.Fatal(err)
		}
		began, sweeps := time.Now(), 0
		for ; statsOf(t, s).Activities > 0 && sweeps < 1000; sweeps++ {
			next, err := s.Sweep(bg)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(next)
		}
		if took := time.Since(began); sweeps > 300 || took < 24*time.Hour || took > 24*time.Hour+2*time.Minute {
			t.Errorf("%d sweeps in %s, want about 288 in a day", sweeps, took)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
