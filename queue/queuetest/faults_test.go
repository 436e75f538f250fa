package queuetest_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/queuetest"
)

var errAway = errors.New("store is away")

// sink is a store that only counts the stats it is asked for.
type sink struct {
	queue.Queue
	asked int
}

func (s *sink) Stats(context.Context) (queue.Stats, error) {
	s.asked++
	return queue.Stats{Pending: 7}, nil
}

// TestFaultyCoversTheContract checks that every method of queue.Queue that takes a context can be made to fail.
func TestFaultyCoversTheContract(t *testing.T) {
	contract := reflect.TypeFor[queue.Queue]()
	for i := range contract.NumMethod() {
		m := contract.Method(i)
		if m.Type.NumIn() == 0 || m.Type.In(0) != reflect.TypeFor[context.Context]() {
			continue
		}
		t.Run(m.Name, func(t *testing.T) {
			f := queuetest.Faulty(nil) // a call that gets through panics
			f.Fail(m.Name, errAway)
			in := []reflect.Value{reflect.ValueOf(t.Context())}
			for j := 1; j < m.Type.NumIn(); j++ {
				in = append(in, reflect.Zero(m.Type.In(j)))
			}
			out := reflect.ValueOf(f).MethodByName(m.Name).Call(in)
			if err, _ := out[len(out)-1].Interface().(error); !errors.Is(err, errAway) {
				t.Errorf("%s gave the error %v, want %v", m.Name, err, errAway)
			}
		})
	}
}

func TestFaulty(t *testing.T) {
	ctx := t.Context()
	tests := []struct {
		name  string
		fault func(f *queuetest.Faults)
		asked int
		err   error
	}{
		{"none", func(*queuetest.Faults) {}, 1, nil},
		{"fails", func(f *queuetest.Faults) { f.Fail("Stats", errAway) }, 0, errAway},
		{"of another method", func(f *queuetest.Faults) { f.Fail("Due", errAway) }, 1, nil},
		{"answer is lost", func(f *queuetest.Faults) { f.Lose("Stats", errAway) }, 1, errAway},
		{"cleared", func(f *queuetest.Faults) { f.Fail("Stats", errAway); f.Clear() }, 1, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			store := &sink{}
			f := queuetest.Faulty(store)
			test.fault(f)
			st, err := f.Stats(ctx)
			if !errors.Is(err, test.err) || store.asked != test.asked || (st.Pending == 7) != (test.err == nil) {
				t.Errorf("Stats = %+v, %v after %d calls, want %v after %d", st, err, store.asked, test.err, test.asked)
			}
		})
	}
}

func TestFaultyDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := queuetest.Faulty(&sink{})
		f.Delay("Stats", time.Minute)
		start := time.Now()
		if _, err := f.Stats(t.Context()); err != nil || time.Since(start) != time.Minute {
			t.Errorf("Stats gave %v after %s, want it after a minute", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if _, err := f.Stats(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("Stats gave %v after %s, want it to give up after a second", err, time.Since(start))
		}
	})
}

func TestFaultyUnknownMethod(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a fault of a method that does not exist was taken")
		}
	}()
	queuetest.Faulty(nil).Fail("Setle", errAway)
}
