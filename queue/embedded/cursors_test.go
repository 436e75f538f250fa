package embedded

import (
	"testing"

	"github.com/postrider/postrider/queue/queuetest"
)

func FuzzCursors(f *testing.F) {
	s, err := Open(f.TempDir(), Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	queuetest.FuzzCursors(f, s)
}
