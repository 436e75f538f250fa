package bench

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPercentile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for _, row := range []struct {
		values  []float64
		p, want float64
	}{
		{hundred, 50, 50}, {hundred, 99, 99}, {hundred, 100, 100}, {hundred, 0, 1},
		{[]float64{7}, 50, 7}, {[]float64{7}, 99, 7}, {[]float64{1, 2, 3}, 50, 2}, {[]float64{3, 1, 2}, 67, 3},
	} {
		if got := percentile(row.values, row.p); got != row.want {
			t.Errorf("percentile %v of %d values is %v, want %v", row.p, len(row.values), got, row.want)
		}
	}
	if got := percentile(nil, 50); !math.IsNaN(got) {
		t.Errorf("percentile of nothing is %v", got)
	}
	if hundred[0] != 100 {
		t.Error("the values were sorted in place")
	}
}

func TestMedians(t *testing.T) {
	got := medians([]figures{{"a": 3, "b": 1}, {"a": 1, "b": 2}, {"a": 2}})
	if diff := cmp.Diff(figures{"a": 2, "b": 1.5}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing is %v", got)
	}
}

func TestRatio(t *testing.T) {
	f := figures{}
	f.ratio("half", 1, 2)
	f.ratio("by zero", 1, 0)
	f.ratio("of nothing", 0, 0)
	f.ratio("of what is not there", f["x"], f["y"])
	if diff := cmp.Diff(figures{"half": 0.5}, f); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := perSecond(300, 2*time.Second); got != 150 {
		t.Errorf("300 in 2 s are %v/s", got)
	}
}
