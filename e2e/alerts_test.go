package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testdns"
	"github.com/postrider/postrider/internal/testinbox"
	"github.com/postrider/postrider/internal/testredis"
)

// hasty says what is changed in the rules, which wait for minutes, and for a disk that is almost full.
var hasty = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`(?m)^( +for:) \d+m$`), "$1 1s"},
	{regexp.MustCompile(`(?m)( > )600$`), "${1}1"},
	{regexp.MustCompile(`(free_bytes < )1e9`), "${1}1e18"},
}

// monitor is a Prometheus that scrapes nodes.
type monitor struct {
	t   *testing.T
	dir string
	url string
}

// startMonitor starts a Prometheus that evaluates the rules of the repository, but for what hasty changes, every second. Each
// node is a job of its own. The test is skipped where there is no Prometheus, and fails instead if REQUIRE_PROMETHEUS=1.
func startMonitor(t *testing.T, jobs map[string]*testNode) *monitor {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		give := t.Skipf
		if os.Getenv("REQUIRE_PROMETHEUS") == "1" {
			give = t.Fatalf
		}
		give("prometheus is needed: apt-get install prometheus (%v)", err)
	}
	m := &monitor{t: t, dir: t.TempDir()}
	m.writeRules()
	config := "global: {evaluation_interval: 1s}\nrule_files: [rules.yml]\nscrape_configs:\n"
	for job, n := range jobs {
		config += fmt.Sprintf("  - {job_name: %s, scrape_interval: 3s, scrape_timeout: 3s, static_configs: [{targets: [%q]}]}\n", job, n.Listen)
	}
	m.write("prometheus.yml", config)
	var out harness.Output
	command := exec.Command(program, "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0")
	command.Dir = m.dir
	command.Stdout = &out
	command.Stderr = &out
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if t.Failed() {
			t.Logf("Prometheus said:\n%s", out.String())
		}
	})
	listens := regexp.MustCompile(`msg="Listening on" address=(\S+)`)
	harness.Eventually(t, "Prometheus is ready", func() bool {
		found := listens.FindStringSubmatch(out.String())
		if found == nil || !strings.Contains(out.String(), "Server is ready") {
			return false
		}
		m.url = "http://" + found[1]
		return true
	})
	return m
}

func (m *monitor) write(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *monitor) writeRules() {
	m.t.Helper()
	text, err := os.ReadFile("../deploy/prometheus/rules.yml")
	if err != nil {
		m.t.Fatal(err)
	}
	rules := string(text)
	for _, change := range hasty {
		if !change.what.MatchString(rules) {
			m.t.Fatalf("the rules have no %s", change.what)
		}
		rules = change.what.ReplaceAllString(rules, change.by)
	}
	m.write("rules.yml", rules)
}

// eventually waits until a condition holds, for minutes on a busy machine: what Prometheus sees is some seconds old, or more.
func (m *monitor) eventually(what string, cond func() bool) {
	m.t.Helper()
	deadline := time.NewTimer(5 * harness.Patience)
	defer deadline.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			m.t.Fatal("never: " + what)
		}
	}
}

// get reads an answer of Prometheus's API.
func (m *monitor) get(path string, v any) {
	m.t.Helper()
	answer, err := http.Get(m.url + path)
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err == nil {
		err = json.Unmarshal(body, v)
	}
	if err != nil || answer.StatusCode != http.StatusOK {
		m.t.Fatalf("%s answered %d %s, %v", path, answer.StatusCode, body, err)
	}
}

// scraped reports how many jobs have a value of a metric.
func (m *monitor) scraped(metric string) int {
	m.t.Helper()
	var found struct{ Data struct{ Result []any } }
	m.get("/api/v1/query?query=sum+by(job)("+metric+")", &found)
	return len(found.Data.Result)
}

// firing returns the alerts that fire for each job, without the name of the program.
func (m *monitor) firing() map[string][]string {
	m.t.Helper()
	var found struct {
		Data struct {
			Alerts []struct {
				Labels struct{ Alertname, Job string }
				State  string
			}
		}
	}
	m.get("/api/v1/alerts", &found)
	alerts := map[string][]string{}
	for _, a := range found.Data.Alerts {
		if a.State == "firing" {
			alerts[a.Labels.Job] = append(alerts[a.Labels.Job], strings.TrimPrefix(a.Labels.Alertname, "Postrider"))
		}
	}
	for _, names := range alerts {
		slices.Sort(names)
	}
	return alerts
}

// TestAlerts has a Prometheus watch nodes, each of which has another trouble, and one that has none.
func TestAlerts(t *testing.T) {
	t.Parallel()
	const some = 30 // more activities than the rules think to be nothing
	redis := map[string]*testredis.Server{"postrider": testredis.Start(t), "away": testredis.Start(t), "full": testredis.Start(t)}
	app := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(app.Close)
	jobs := map[string]*testNode{
		"refused": startNode(t),
		"busy":    startNode(t, "--concurrency", "2", "--attempt-timeout", "10m", "--shutdown-timeout", "100ms"),
		"webhook": startNode(t, "--webhook-url", app.URL, "--webhook-secret", webhookSecret),
		"names":   store(nil).startAsking(t, []*testdns.Server{testdns.Start(t, testdns.Always(testdns.Fail))}),
		"dropped": startNode(t, "--dead-letter-cap", "1"),
	}
	for job, server := range redis {
		jobs[job] = onRedis(server.URL()).startNode(t)
	}
	m := startMonitor(t, jobs)
	m.eventually("all are scraped", func() bool { return m.scraped("postrider_deliveries_accepted_total") == len(jobs) })

	refuses := startHost(t, replies(testinbox.Reply{Status: http.StatusForbidden}))
	works := startHosts(t, 4, fine)
	var slow atomic.Bool
	busy := startHosts(t, 4, func(int) testinbox.Options {
		return scripted(func(testinbox.Request) testinbox.Reply { return testinbox.Reply{Hang: slow.Load()} })
	})
	for i := range some {
		jobs["refused"].settled(jobs["refused"].deliver(like(fmt.Sprint(i)), refuses.Inbox(0, "/inbox")))
		jobs["postrider"].settled(jobs["postrider"].deliver(like(fmt.Sprint(i)), works.Inbox(i%4, "/inbox")))
	}
	jobs["webhook"].settled(jobs["webhook"].deliver(like("1"), works.Inbox(0, "/inbox")))
	jobs["busy"].settled(jobs["busy"].accept(submission{activity: like("1"), inboxes: busy.urls()}))
	slow.Store(true)
	jobs["busy"].accept(submission{activity: like("2"), inboxes: busy.urls()})
	jobs["names"].accept(submission{activity: like("1"), inboxes: startNamedHosts(t, 4).named(0, 4)})
	jobs["dropped"].act(works.Host(0), "pause")
	for i := range 3 {
		jobs["dropped"].deliver(like(fmt.Sprint(i)), works.Inbox(0, "/inbox"))
	}
	jobs["dropped"].act(works.Host(0), "block")
	redis["away"].Stop()
	redis["full"].Must("CONFIG", "SET", "maxmemory", "1")
	if a := jobs["full"].Call("POST", "/v1/activities", harness.JSON(map[string]any{
		"activity": json.RawMessage(like("1")), "key_id": keyID, "inboxes": works.urls(),
	})); a.Status != http.StatusServiceUnavailable {
		t.Errorf("a store without room answers %d %s", a.Status, a.Body)
	}

	want := map[string][]string{
		"refused": {"DiskAlmostFull", "MostHostsRefuse", "NothingDelivered"},
		"busy":    {"DiskAlmostFull", "OldestDueTooOld"},
		"webhook": {"DiskAlmostFull", "WebhookBehind"},
		"names":   {"DiskAlmostFull", "NamesAway"},
		"dropped": {"DeadLettersDropped", "DiskAlmostFull"},
		"away":    {"StoreAway"},
		"full":    {"StoreAway", "StoreFull"},
	}
	diff := ""
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what fires last (-want +got):\n%s", diff)
		}
	})
	fires := func(what string) {
		t.Helper()
		m.eventually(what, func() bool {
			diff = cmp.Diff(want, m.firing())
			return diff == ""
		})
	}
	fires("each trouble has its alert, and nothing else has one")
	jobs["postrider"].Stop()
	want["postrider"] = []string{"NodeDown"}
	fires("a node that has stopped has its alert")
}
