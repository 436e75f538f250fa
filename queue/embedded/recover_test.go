package embedded

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/postrider/postrider/queue"
)

// An operation that panics fails alone: those that share its transaction go through, and the writer goes on.
func TestAPanicFailsOneOperation(t *testing.T) {
	s := open(t, t.TempDir())
	var calls sync.WaitGroup
	for i := range 50 {
		calls.Go(func() {
			err := s.writer.do(bg, func(tx *tx) error {
				if err := tx.exec("CREATE TABLE half_way (n)"); err != nil {
					return err
				}
				var nothing *op
				return nothing.run(tx)
			}, func() { t.Error("a failed operation is applied") })
			if err == nil || !strings.Contains(err.Error(), "nil pointer") || !strings.Contains(err.Error(), "recover_test.go") {
				t.Errorf("operation that panics: %v", err)
			}
		})
		calls.Go(func() {
			if _, err := s.PutKey(bg, queue.Key{ID: "key", Sealed: []byte{byte(i)}}); err != nil {
				t.Errorf("operation beside it: %v", err)
			}
		})
	}
	calls.Wait()
	if err := s.Ready(bg); err != nil {
		t.Errorf("not ready: %v", err)
	}
	if err := s.writer.do(bg, func(tx *tx) error { return tx.exec("SELECT n FROM half_way") }, nil); err == nil {
		t.Error("what an operation did before it panicked was not undone")
	}
	if _, err := s.Key(bg, "key", ""); err != nil || errors.Is(err, queue.ErrNotFound) {
		t.Errorf("key: %v", err)
	}
}
