package redisq

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue"
)

// TestTranslate checks which error a caller gets, also where the client gave up before the context ended, which has no
// cause by then.
func TestTranslate(t *testing.T) {
	running := t.Context()
	late, cancel := context.WithDeadlineCause(running, time.Now(), errSlow)
	defer cancel()
	ended, end := context.WithCancel(running)
	end()
	for _, c := range []struct {
		name string
		ctx  context.Context
		err  error
		want error
	}{
		{"deadline of a call", late, context.DeadlineExceeded, errSlow},
		{"deadline that the context does not know of yet", running, context.DeadlineExceeded, errSlow},
		{"deadline of the client", running, errors.Join(errors.New("write"), context.DeadlineExceeded), context.DeadlineExceeded},
		{"closed client", running, rueidis.ErrClosing, queue.ErrClosed},
		{"closed client's own context", running, context.Canceled, queue.ErrClosed},
		{"caller that left", ended, context.Canceled, context.Canceled},
	} {
		got := translate(c.ctx, c.err)
		if !errors.Is(got, c.want) || strings.Contains(got.Error(), "%!") {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if err := translate(running, nil); err != nil {
		t.Errorf("no error became %v", err)
	}
}
