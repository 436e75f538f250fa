package embedded

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

// secrets returns bodies, some longer than a page, that have a text in common which nothing else has.
func secrets(text string) (bodies []string) {
	for i := range 20 {
		bodies = append(bodies, strings.Repeat(fmt.Sprintf("%s of body %d, ", text, i), 1+i*i*4))
	}
	return bodies
}

// deliverBody delivers a new activity with the body.
func deliverBody(t *testing.T, s *Store, body string, n int) {
	t.Helper()
	uri := fmt.Sprintf("https://app.example/%d", n)
	_, err := s.Enqueue(bg, &queue.Submission{
		Activity:    queue.Activity{ID: uuid.Must(uuid.NewV7()).String(), URI: uri, Priority: queue.Normal, Body: []byte(body), Digest: sha256.Sum256([]byte(body))},
		TTL:         time.Hour,
		Idempotency: queue.Idempotency{Key: sha256.Sum256([]byte(uri))},
		Recipients:  []queue.Recipient{{Inbox: "https://a.example/inbox", Host: "a.example"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	deliverOne(s, "a.example", uint64(n+1))
}

// holders returns the files of a store that hold a text.
func holders(t *testing.T, dir, text string) (names []string) {
	t.Helper()
	for _, name := range []string{"postrider.db", "postrider.db-wal"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte(text)) {
			names = append(names, name)
		}
	}
	return names
}

// TestDeliveredBodiesLeaveTheFiles checks that what was delivered is in no file of the store, a minute after the last
// change.
func TestDeliveredBodiesLeaveTheFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		for n, body := range secrets("a secret") {
			deliverBody(t, s, body, n)
			limitWAL(s, []uint32{5, walPages}[n/10]) // so that the database has some of them too
		}
		if got := holders(t, dir, "a secret"); len(got) == 0 {
			t.Fatal("no file holds what was delivered just now")
		}
		time.Sleep(restAfter)
		synctest.Wait()
		if got := holders(t, dir, "a secret"); len(got) > 0 {
			t.Errorf("%v still hold what was delivered", got)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAnIdleStoreRests checks that a store writes nothing but the time once it has emptied its WAL, and empties that again
// only after another change, when nobody reads it any more.
func TestAnIdleStoreRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir())
		deliverBody(t, s, "a body", 0)
		time.Sleep(restAfter)
		synctest.Wait()
		for want := range uint32(5) {
			if pages := s.db.stamps.pages(); pages != want+1 { // one is the stamp
				t.Errorf("after %d looks of an idle store the WAL has %d pages", want, pages)
			}
			time.Sleep(sweepIdle)
			if _, err := s.Sweep(bg); err != nil {
				t.Fatal(err)
			}
		}
		reading(t, s, func() {
			deliverBody(t, s, "another body", 1)
			time.Sleep(restAfter)
			synctest.Wait()
			if pages := s.db.stamps.pages(); pages < 6 {
				t.Errorf("the WAL has %d pages though somebody reads it", pages)
			}
		})
		time.Sleep(restAfter)
		synctest.Wait()
		if pages := s.db.stamps.pages(); pages != 1 {
			t.Errorf("the WAL has %d pages after another change", pages)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAWALThatGrewIsCut checks that a WAL that took much while somebody read it leaves no more behind than the next one
// overwrites.
func TestAWALThatGrewIsCut(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	body := strings.Repeat("x", 2<<20)
	reading(t, s, func() {
		for n := range 10 {
			deliverBody(t, s, body, n)
		}
		if size := walFile(t, s, dir); size < walSize {
			t.Fatalf("the file of the WAL has only %d bytes", size)
		}
	})
	limitWAL(s, 1)
	if size := walFile(t, s, dir); size > walSize {
		t.Errorf("the file of the WAL has %d bytes, want %d at most", size, walSize)
	}
}

// walFile returns the size of the WAL's file once the writer has nothing to do.
func walFile(t *testing.T, s *Store, dir string) int64 {
	t.Helper()
	settled(t, s)
	info, err := os.Stat(filepath.Join(dir, "postrider.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
