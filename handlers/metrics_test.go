package handlers

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/queue"
)

// counted is what a registry shows of the API: counters by name, and requests by route and status.
type counted struct {
	Counters map[string]float64
	Requests map[string]uint64
}

func countedIn(t *testing.T, registry *prometheus.Registry) counted {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	c := counted{map[string]float64{}, map[string]uint64{}}
	for _, f := range families {
		for _, series := range f.GetMetric() {
			switch f.GetName() {
			case "postrider_http_request_duration_seconds":
				labels := series.GetLabel()
				c.Requests[labels[0].GetValue()+" "+labels[1].GetValue()] = series.GetHistogram().GetSampleCount()
			case "postrider_feed_read_age_seconds":
				c.Counters[f.GetName()] = float64(series.GetHistogram().GetSampleCount())
			default:
				c.Counters[f.GetName()] = series.GetCounter().GetValue()
			}
		}
	}
	return c
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	g := newRig(t, withTokens, func(o *Options) {
		o.Metrics = NewMetrics(registry)
		o.Scrape = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a fault") })
	})
	g.queue.duplicate = map[string]bool{"https://two.example/inbox": true}
	authorized := []string{"Authorization", "Bearer 0123456789abcdef"}
	body := call(anActivity, aKey, `"inboxes":["https://one.example/inbox","https://two.example/inbox","https://three.example/inbox"]`)
	for range 2 { // the second repeats the first
		wantStatus(t, g.do("POST", "/v1/activities", body, append(authorized, "Idempotency-Key", "k")...), 202)
	}
	line := post1("b", "https://one.example/inbox", "k") + "\n" + post1("c", "https://two.example/inbox", "k")
	wantStatus(t, g.batch(line, authorized...), 200)
	g.queue.feed = []queue.Event{{Kind: queue.EventHostState, At: time.Now().Add(-time.Hour), Host: "one.example"}}
	wantStatus(t, g.do("GET", "/v1/feed", "", authorized...), 200)
	wantStatus(t, g.do("GET", "/v1/feed?after=now", "", authorized...), 200)
	wantStatus(t, g.do("HEAD", "/v1/hosts/one.example", "", authorized...), 200)
	wantStatus(t, g.do("GET", "/v1/hosts/two.example", "", authorized...), 200)
	wantStatus(t, g.do("GET", "/v1/nothing", "", authorized...), 404)
	wantStatus(t, g.do("GET", "/v1/hosts", ""), 401)
	wantStatus(t, g.do("PROPFIND", "/v1/hosts", ""), 401)
	wantStatus(t, g.do("GET", "/", ""), 200)
	wantStatus(t, g.do("GET", "/metrics", "", authorized...), 500)

	want := counted{
		Counters: map[string]float64{
			"postrider_activities_accepted_total": 3, "postrider_deliveries_accepted_total": 3, "postrider_feed_read_age_seconds": 1,
		},
		Requests: map[string]uint64{
			"POST /v1/activities 202": 2, "POST /v1/activities/batch 200": 1, "GET /v1/feed 200": 2, "GET /v1/hosts/{host} 200": 2,
			"other 404": 1, "other 401": 2, "other 200": 1, "GET /metrics 500": 1,
		},
	}
	if diff := cmp.Diff(want, countedIn(t, registry)); diff != "" {
		t.Error(diff)
	}
}

// BenchmarkRequestMetrics is what it costs to count one request.
func BenchmarkRequestMetrics(b *testing.B) {
	m := NewMetrics(prometheus.NewRegistry())
	v := &visit{route: "POST /v1/activities"}
	rec := &recorder{ResponseWriter: httptest.NewRecorder(), status: http.StatusAccepted}
	b.ReportAllocs()
	for b.Loop() {
		m.request(v, rec, time.Now())
	}
}
