package embedded

import (
	"testing"
	"testing/synctest"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// TestMinutesAreDropped checks that the store keeps no more minutes than it has to, and that a damaged one has no numbers.
func TestMinutesAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir)
		const hours = queue.MinutesKept / 60
		for range hours + 10 {
			if _, err := s.AddMinute(bg, queue.Counted{Sums: map[string]int64{"sum": 1}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		inDatabase(t, dir, func(c *sqlite.Conn) error {
			n, _, err := one(c, (*sqlite.Stmt).ColumnInt, "SELECT count(*) FROM minutes")
			if n != hours+1 {
				t.Errorf("%d minutes are kept", n)
			}
			return err
		})
		inDatabase(t, dir, func(c *sqlite.Conn) error { return each(c, "UPDATE minutes SET numbers = 'null'", nil, nil) })
		s = open(t, dir)
		if _, err := s.AddMinute(bg, queue.Counted{Took: 10 * time.Minute, Sums: map[string]int64{"sum": 1}}); err != nil {
			t.Error(err)
		}
		minutes, err := s.Minutes(bg, 10)
		sum := int64(0)
		for _, m := range minutes {
			sum += m.Numbers["sum"]
		}
		if err != nil || sum != 1 {
			t.Errorf("the sum is %d, %v, want 1", sum, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
