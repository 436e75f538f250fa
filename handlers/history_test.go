package handlers

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/queue"
)

// minutesUntil returns minutes with these numbers, of which the last ends at a time.
func minutesUntil(end time.Time, numbers ...map[string]int64) (minutes []queue.Minute) {
	for i, n := range numbers {
		minutes = append(minutes, queue.Minute{At: end.Add(time.Duration(i-len(numbers)) * time.Minute), Numbers: n})
	}
	return minutes
}

func TestHistory(t *testing.T) {
	g := newRig(t)
	g.queue.minutes = minutesUntil(noon,
		map[string]int64{"pending": 9, "died:gone": 3, "hosts:open": 2}, // before the first step
		nil,
		map[string]int64{
			"activities": 2, "deliveries": 20, "attempts:delivered": 10, "attempts:gone": 1, "attempts:unheard_of": 1,
			"arrived:50": 8, "arrived:100": 2, "pending": 4, "died:gone": 4, "died:expired": 2, "hosts:open": 1, "hosts:unavailable": 5,
		},
	)
	rec := g.do("GET", "/v1/stats/history?minutes=2", "")
	wantStatus(t, rec, 200)
	attempts := func(delivered, gone int) string {
		return fmt.Sprintf(`{"aborted":0,"delivered":%d,"fault":0,"gone":%d,"key_missing":0,"private_address":0,"redirected":0,`+
			`"rejected":0,"server_error":0,"throttled":0,"unauthorized":0,"unreachable":0}`, delivered, gone)
	}
	want := `{"step_seconds":60,"items":[{"at":"2026-01-02T10:58:00.000Z","activities":0,"accepted":0,"delivered":0,"dead":0,"died":{},` +
		`"attempts":` + attempts(0, 0) + `,"pending":9,"hosts":{"open":2,"refusing":0,"unavailable":0}},` +
		`{"at":"2026-01-02T10:59:00.000Z","activities":2,"accepted":20,"delivered":10,"dead":3,"died":{"expired":2,"gone":1},` +
		`"attempts":` + attempts(10, 1) + `,"pending":4,"hosts":{"open":1,"refusing":0,"unavailable":5},"latency_ms":{"p50":40,"p95":87}}]}` + "\n"
	if diff := cmp.Diff(want, rec.Body.String()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]any{12}, g.queue.asked); diff != "" {
		t.Errorf("minutes asked for: %s", diff)
	}
}

// TestHistorySteps checks how long steps are, and how many there are.
func TestHistorySteps(t *testing.T) {
	for query, want := range map[string][2]int{
		"": {60, 60}, "?minutes=1": {60, 1}, "?minutes=180": {60, 180}, "?minutes=181": {600, 19}, "?minutes=1440": {600, 144}, "?minutes=1500": {600, 150},
	} {
		g := newRig(t)
		for i := range 1600 {
			g.queue.minutes = append(g.queue.minutes, queue.Minute{
				At: noon.Add(time.Duration(i-1600) * time.Minute), Numbers: map[string]int64{"deliveries": 1, "died:gone": int64(i), "pending": int64(i)},
			})
		}
		rec := g.do("GET", "/v1/stats/history"+query, "")
		wantStatus(t, rec, 200)
		past := decode[pastView](t, rec)
		if past.StepSeconds != want[0] || len(past.Items) != want[1] {
			t.Errorf("%q gave %d steps of %d s, want %v", query, len(past.Items), past.StepSeconds, want)
		}
		length := int64(want[0] / 60)
		for i, step := range past.Items {
			at := noon.Add(-time.Duration(want[0]*(len(past.Items)-i)) * time.Second)
			if step.At != stamp(at) || step.Accepted != length || step.Dead != length || step.Pending != 1599-length*int64(len(past.Items)-1-i) {
				t.Fatalf("%q: step %d is %+v", query, i, step)
			}
		}
	}
}

// TestHistoryOfDead checks that only what died in a step counts for it: not what had died before any level was known,
// nor what seems to die when the totals begin again.
func TestHistoryOfDead(t *testing.T) {
	g := newRig(t)
	died := func(n int64) map[string]int64 { return map[string]int64{"died:gone": n} }
	g.queue.minutes = minutesUntil(noon, died(1000), nil, died(1003), died(2), died(7), map[string]int64{"died:gone": 7, "died:expired": 1})
	past := decode[pastView](t, g.do("GET", "/v1/stats/history?minutes=6", ""))
	var got []int64
	for _, step := range past.Items {
		got = append(got, step.Dead)
	}
	if diff := cmp.Diff([]int64{0, 0, 3, 0, 5, 1}, got); diff != "" {
		t.Error(diff)
	}
}

func TestHistoryLatency(t *testing.T) {
	for _, c := range []struct {
		sums map[string]int64
		want *latencyView
	}{
		{nil, nil},
		{map[string]int64{"arrived:10": 1}, &latencyView{5, 9}},
		{map[string]int64{"arrived:1000": 10, "arrived:2500": 10}, &latencyView{1000, 2350}},
		{map[string]int64{"arrived:10": 94, "arrived:86400000": 6}, &latencyView{5, 50400000}},
		{map[string]int64{"arrived:later": 2}, &latencyView{259200000, 259200000}},
	} {
		if diff := cmp.Diff(c.want, latencyOf(c.sums)); diff != "" {
			t.Errorf("%v: %s", c.sums, diff)
		}
	}
}

func TestHistoryRefuses(t *testing.T) {
	g := newRig(t)
	for _, minutes := range []string{"0", "-1", "1501", "x", "", "1.5"} {
		if p := wantProblem(t, g.do("GET", "/v1/stats/history?minutes="+minutes, ""), 422); p.Errors[0].Location != "query.minutes" {
			t.Errorf("%s: %+v", minutes, p.Errors)
		}
	}
	g.queue.err = errAway
	if p := wantProblem(t, g.do("GET", "/v1/stats/history", ""), 503); strings.Contains(p.Detail, "secret") {
		t.Error(p.Detail)
	}
}
