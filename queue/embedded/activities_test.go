package embedded

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

// importMany stores finished activities. Each is changed by a function of its number.
func importMany(t testing.TB, s *Store, n int, change func(i int, a *queue.Activity)) {
	t.Helper()
	var records []queue.Record
	for i := range n {
		m := &queue.MovedActivity{
			Activity:  queue.Activity{ID: uuid.Must(uuid.NewV7()).String(), Type: "Create", CreatedAt: time.Now().Add(-time.Second), Priority: queue.Normal},
			Delivered: 1,
		}
		change(i, &m.Activity)
		records = append(records, queue.Record{Activity: m})
		if len(records) == 1000 || i == n-1 {
			if stored, err := s.Import(bg, records); err != nil || stored != len(records) {
				t.Fatal(stored, err)
			}
			records = nil
		}
	}
}

// A search without an index looks at a bounded number of activities for a page, which may have few then, or none.
func TestSearchIsBounded(t *testing.T) {
	s := open(t, t.TempDir())
	const n = 2*searchRows + 10
	began := time.Now().Add(-n * time.Second)
	importMany(t, s, n, func(i int, a *queue.Activity) {
		a.URI, a.CreatedAt = fmt.Sprint(i), began.Add(time.Duration(i)*time.Second)
		if i == 0 || i == n-3 || i == n-5 {
			a.Type = "Move"
		}
	})
	moves := queue.ActivityFilter{Type: "Move"}
	var got [][]string
	for p := (queue.Page{Limit: 2}); len(got) < 5; {
		list, err := s.Activities(bg, moves, p)
		if err != nil {
			t.Fatal(err)
		}
		var page []string
		for _, a := range list.Items {
			page = append(page, a.URI)
		}
		got = append(got, page)
		if p.Cursor = list.Next; p.Cursor == "" {
			break
		}
	}
	if want := fmt.Sprint([][]string{{fmt.Sprint(n - 3), fmt.Sprint(n - 5)}, nil, {"0"}}); fmt.Sprint(got) != want {
		t.Errorf("pages %v, want %v", got, want)
	}
	list, err := s.Activities(bg, queue.ActivityFilter{Since: began.Add((n - 2) * time.Second)}, queue.Page{Limit: 10})
	if err != nil || len(list.Items) != 2 || list.Next != "" {
		t.Errorf("%d activities since the last two, then %q, %v; want 2 and no more pages", len(list.Items), list.Next, err)
	}
}

var benchActivities = flag.Int("activities", 10_000, "how many activities the larger of the stores has in which BenchmarkSearch searches")

// BenchmarkSearch searches for activities in a store of a thousand, and in one of many more: -activities=1000000.
func BenchmarkSearch(b *testing.B) {
	for _, n := range []int{1000, *benchActivities} {
		s, err := Open(b.TempDir(), Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = s.Close() })
		for _, name := range []string{"rare.example", "other.example"} {
			submitMany(b, s, []string{name})
		}
		importMany(b, s, n, func(i int, a *queue.Activity) {
			a.URI, a.Actor = fmt.Sprint("https://app.example/", i), fmt.Sprint("https://app.example/users/", i%100)
			if i == n/2 {
				a.Actor = "https://app.example/users/rare"
			}
			a.KeyID = a.Actor + "#main-key"
		})
		for _, c := range []struct {
			name   string
			filter queue.ActivityFilter
			want   int
		}{
			{"all", queue.ActivityFilter{}, 10},
			{"URI", queue.ActivityFilter{URI: "https://app.example/1"}, 1},
			{"unknown URI", queue.ActivityFilter{URI: "https://app.example/x"}, 0},
			{"actor", queue.ActivityFilter{Actor: "https://app.example/users/1"}, 10},
			{"rare actor", queue.ActivityFilter{Actor: "https://app.example/users/rare"}, 1},
			{"key", queue.ActivityFilter{KeyID: "https://app.example/users/1#main-key"}, 10},
			{"pending", queue.ActivityFilter{State: queue.ActivityPending}, 2},
			{"since", queue.ActivityFilter{Since: time.Now().Add(time.Hour)}, 0},
			{"unknown type", queue.ActivityFilter{Type: "Move"}, 0},
		} {
			b.Run(fmt.Sprintf("%s/activities=%d", c.name, n), func(b *testing.B) {
				for b.Loop() {
					list, err := s.Activities(b.Context(), c.filter, queue.Page{Limit: 10})
					if err != nil || len(list.Items) != c.want {
						b.Fatalf("%d activities, %v, want %d", len(list.Items), err, c.want)
					}
				}
			})
		}
	}
}

// TestSearchAmongMoved checks that a page costs the same however many activities were moved to a store that had others, in whatever
// order these came.
func TestSearchAmongMoved(t *testing.T) {
	looked := map[string][]int{}
	for _, n := range []int{300, 3000} {
		s := open(t, t.TempDir())
		submitMany(t, s, []string{"a.example"})
		now := time.Now()
		importMany(t, s, n, func(i int, a *queue.Activity) {
			a.URI, a.Actor = fmt.Sprint(i), fmt.Sprint("https://app.example/users/", i%3)
			a.KeyID = a.Actor + "#main-key"
			a.CreatedAt = now.Add(-time.Hour - time.Duration(i*7919%n)*time.Second)
		})
		submitMany(t, s, []string{"b.example"})
		for name, f := range map[string]queue.ActivityFilter{
			"all": {}, "since": {Since: now.Add(-30 * time.Minute)}, "since the moved": {Since: now.Add(-time.Hour - 5*time.Second)},
			"actor": {Actor: "https://app.example/users/1"}, "key": {KeyID: "https://app.example/users/2#main-key"}, "URI": {URI: "7"},
			"pending": {State: queue.ActivityPending, Since: now.Add(-time.Minute)},
		} {
			o := &search{s: s, filter: f, limit: 10}
			if err := o.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			looked[name] = append(looked[name], o.looked)
		}
	}
	for name, n := range looked {
		if n[0] != n[1] || n[0] > 11 {
			t.Errorf("%s: a page looks at %d activities of 300, and at %d of 3,000", name, n[0], n[1])
		}
	}
}
