package queue_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/postrider/postrider/queue"
)

// TestShiftedMovesEachTime holds that no time of a host's record, also one that is added later, stays where it is.
func TestShiftedMovesEachTime(t *testing.T) {
	at, by := time.Date(2030, 1, 2, 20, 0, 0, 0, time.UTC), 100*time.Hour
	each := func(r *queue.HostRecord, do func(name string, at *time.Time)) {
		for _, v := range []reflect.Value{reflect.ValueOf(r).Elem(), reflect.ValueOf(&r.Breaker).Elem()} {
			for i := range v.NumField() {
				if at, ok := v.Field(i).Addr().Interface().(*time.Time); ok {
					do(v.Type().Field(i).Name, at)
				}
			}
		}
	}
	var r queue.HostRecord
	if got := r.Shifted(by); !reflect.DeepEqual(got, r) {
		t.Errorf("a new host's record became %+v", got)
	}
	each(&r, func(_ string, field *time.Time) { *field = at })
	r.Breaker.Days = []int32{10, 12}
	r.LastError = &queue.LastAttempt{At: at}
	got, moved := r.Shifted(by), 0
	each(&got, func(name string, field *time.Time) {
		moved++
		if want := at.Add(by); !field.Equal(want) {
			t.Errorf("%s is %s, want %s", name, field, want)
		}
	})
	if moved < 6 {
		t.Errorf("there are %d times, want 6 at least", moved)
	}
	if want := []int32{14, 16}; !reflect.DeepEqual(got.Breaker.Days, want) || !reflect.DeepEqual(r.Breaker.Days, []int32{10, 12}) {
		t.Errorf("days %v, of %v", got.Breaker.Days, r.Breaker.Days)
	}
	if back := got.Shifted(-by); !reflect.DeepEqual(back, r) {
		t.Errorf("back again: %+v, want %+v", back, r)
	}
}
