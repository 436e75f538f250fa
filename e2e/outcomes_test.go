package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// fate is the state of a delivery, and of its host, after one attempt.
type fate struct {
	State    string // delivered, pending or dead
	Reason   string // of the dead letter
	Outcome  string // of the last attempt, but of those delivered
	Status   int    // likewise
	Attempts int    // spent
	Next     string // attempt: after how long; schedule where it is as the retry schedule says
	Failures int    // of the host, in a row
	Requests string // the schemes of the requests that came, or the number of those that are not verified
}

var delivered = fate{State: "delivered", Requests: "cavage"}

func dead(status int, reason, outcome string) fate {
	return fate{State: "dead", Reason: reason, Outcome: outcome, Status: status, Attempts: 1, Requests: "cavage"}
}

// retried is the fate of a delivery that costs an attempt and, where the host failed, the host a failure.
func retried(status int, outcome string) fate {
	f := fate{State: "pending", Outcome: outcome, Status: status, Attempts: 1, Next: "schedule", Requests: "cavage"}
	if outcome == "server_error" || outcome == "unreachable" {
		f.Failures = 1
	}
	return f
}

func throttled(status int, next string) fate {
	return fate{State: "pending", Outcome: "throttled", Status: status, Next: next, Requests: "cavage"}
}

func (f fate) requests(schemes string) fate {
	f.Requests = schemes
	return f
}

const bothSchemes = "cavage rfc9421"

// outcome is one row of the table of outcomes: what a host does, and what comes of it.
type outcome struct {
	name    string
	host    http.Handler // does it, unless nil
	options testinbox.Options
	want    fate
}

// answers is an outcome of a status and headers, names and values in turn.
func answers(status int, want fate, headers ...string) outcome {
	header := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		header.Set(headers[i], headers[i+1])
	}
	name := strings.TrimSpace(fmt.Sprintf("%d %s", status, strings.Join(headers, " ")))
	return outcome{name: name, options: replies(testinbox.Reply{Status: status, Header: header, Body: "so it is\nsecond line"}), want: want}
}

func simpleOutcomes() []outcome {
	list := []outcome{
		answers(200, delivered), answers(201, delivered), answers(202, delivered), answers(204, delivered), answers(299, delivered),
		answers(404, dead(404, "gone", "gone")), answers(410, dead(410, "gone", "gone")),
		answers(400, dead(400, "rejected", "rejected").requests(bothSchemes)),
		answers(401, retried(401, "unauthorized").requests(bothSchemes)),
		answers(503, retried(503, "server_error")), answers(503, throttled(503, "2h0m0s"), "Retry-After", "7200"),
		answers(503, retried(503, "server_error"), "Retry-After", "soon"),
		answers(429, throttled(429, "2h0m0s"), "Retry-After", "7200"),
		answers(429, throttled(429, "3h0m0s"), "Retry-After", time.Now().Add(3*time.Hour).UTC().Format(http.TimeFormat)),
		answers(429, throttled(429, "12h0m0s"), "Retry-After", "9999999999999999999"),
		answers(429, throttled(429, "12h0m0s"), "Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT"),
		answers(429, throttled(429, "schedule")),
		answers(429, throttled(429, "schedule"), "Retry-After", "-5"),
		answers(429, throttled(429, "schedule"), "Retry-After", "after lunch"),
	}
	for _, status := range []int{402, 403, 405, 406, 409, 413, 415, 418, 422, 451, 501} {
		list = append(list, answers(status, dead(status, "rejected", "rejected")))
	}
	for _, status := range []int{408, 421, 425, 500, 502, 504, 507, 520} {
		list = append(list, answers(status, retried(status, "server_error")))
	}
	return list
}

func redirectOutcomes(elsewhere string) []outcome {
	var list []outcome
	for _, status := range []int{300, 301, 302, 303, 304} {
		list = append(list, answers(status, retried(status, "redirected"), "Location", "/moved"),
			answers(status, retried(status, "redirected"), "Location", elsewhere))
	}
	for _, status := range []int{307, 308} {
		header := http.Header{"Location": {"/moved?to=b%20c"}}
		list = append(list, outcome{
			name: fmt.Sprintf("%d within the host", status),
			options: scripted(func(r testinbox.Request) testinbox.Reply {
				if r.Path == "/inbox" {
					return testinbox.Reply{Status: status, Header: header}
				}
				return testinbox.Reply{}
			}),
			want: delivered.requests("cavage cavage"),
		}, answers(status, retried(status, "redirected").requests("cavage cavage"), "Location", "/inbox")) // a loop
		for _, target := range []string{
			elsewhere, "", "http://10.0.0.1/inbox", "http://127.0.0.1:1/", "//evil.example/", "ftp:/inbox", "http://[::1]/", "http://[", "::",
		} {
			list = append(list, answers(status, retried(status, "redirected"), "Location", target))
		}
	}
	return list
}

// brokenOutcomes are those of hosts that break HTTP or time out.
func brokenOutcomes() []outcome {
	unreachable := retried(0, "unreachable")
	return []outcome{
		{name: "closed", options: replies(testinbox.Reply{Close: true}), want: unreachable},
		{name: "hangs", options: replies(testinbox.Reply{Hang: true}), want: unreachable},
		{name: "garbage", host: raw("SSH-2.0-OpenSSH_9.9\r\n\r\n"), want: unreachable.requests("1")},
		{name: "half a head", host: raw("HTTP/1.1 202 Accepted\r\nDate: "), want: unreachable.requests("1")},
		{name: "status 999", host: raw("HTTP/1.1 999 No\r\nContent-Length: 0\r\n\r\n"), want: unreachable.requests("1")},
		{name: "switches protocols", host: raw("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), want: unreachable.requests("1")},
		{name: "head without end", host: endless("HTTP/1.1 202 Accepted\r\n", "X-Filler: "+strings.Repeat("x", 1000)+"\r\n"), want: unreachable.requests("1")},
		{name: "broken body", host: raw("HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\nshort"), want: delivered.requests("1")},
		{name: "body without end", host: endless("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("x", 4096)), want: delivered.requests("1")},
		{name: "trickling body", host: stalled("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx"), want: delivered.requests("1")},
		{name: "trickling head", host: stalled("HTTP/1.1 200 OK\r\nX-Slow: "), want: unreachable.requests("1")},
	}
}

// raw is a host that answers with any text and closes the connection.
func raw(text string) http.Handler {
	return hijack(func(w io.Writer) { _, _ = io.WriteString(w, text) })
}

// endless is a host that repeats its text endlessly.
func endless(head, again string) http.Handler {
	return hijack(func(w io.Writer) {
		_, err := io.WriteString(w, head)
		for err == nil {
			_, err = io.WriteString(w, again)
		}
	})
}

// stalled is a host that begins an answer and then waits until the client leaves.
func stalled(text string) http.Handler {
	return hijack(func(w io.ReadWriter) {
		_, _ = io.WriteString(w, text)
		_, _ = w.Read(make([]byte, 1))
	})
}

func hijack[W any](answer func(W)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		answer(any(conn).(W))
	})
}

// counted counts the requests that a handler gets.
type counted struct {
	http.Handler
	n atomic.Int64
}

func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.n.Add(1)
	c.Handler.ServeHTTP(w, r)
}

// TestOutcomes makes one attempt for each row of the table: the retry that may follow would come after an hour.
func TestOutcomes(t *testing.T) { onBothStores(t, testOutcomes) }

func testOutcomes(t *testing.T, s store) {
	elsewhere := startHost(t, testinbox.Options{})
	rows := append(simpleOutcomes(), redirectOutcomes(elsewhere.Inbox(0, "/inbox"))...)
	rows = append(rows, brokenOutcomes()...)
	inboxes := make([]*testinbox.Inbox, len(rows))
	rawHosts := make([]*counted, len(rows))
	fleet := startFleet(t, len(rows), func(i int) http.Handler {
		if rows[i].host != nil {
			rawHosts[i] = &counted{Handler: rows[i].host}
			return rawHosts[i]
		}
		rows[i].options.Keys = publicKey
		inboxes[i] = testinbox.New(rows[i].options)
		return inboxes[i]
	})
	node := s.startNode(t, "--retry-base", "1h", "--attempt-timeout", "3s")
	posted := make([]acceptedView, len(rows))
	for i := range rows {
		posted[i] = node.deliver(like(fmt.Sprint(i)), fleet.Inbox(i, "/inbox"))
	}
	for i, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			got := fateOf(t, node, posted[i], fleet.Host(i))
			if in := inboxes[i]; in != nil {
				got.Requests = schemes(t, in.Received())
			} else {
				got.Requests = fmt.Sprint(rawHosts[i].n.Load())
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	refused := node.deliver(like("refused"), nobody)
	if diff := cmp.Diff(retried(0, "unreachable").requests(""), fateOf(t, node, refused, "127.99.99.99:9")); diff != "" {
		t.Errorf("connection refused: %s", diff)
	}
	if elsewhere.count() != 0 {
		t.Errorf("%d redirects to another host were followed", elsewhere.count())
	}
}

// fateOf waits until an attempt was made and returns its result.
func fateOf(t *testing.T, node *testNode, a acceptedView, host string) (f fate) {
	t.Helper()
	var list []deliveryView
	harness.Eventually(t, "an attempt is made", func() bool {
		list = node.deliveries(a)
		return len(list) == 0 || !list[0].LastAttempt.At.IsZero()
	})
	h := node.host(host)
	f.Failures = h.Breaker.Failures
	if len(list) == 0 {
		checkHost(t, h, attemptView{})
		if got := node.activity(a); got.Counts != (countsView{Total: 1, Delivered: 1}) {
			t.Errorf("nothing is left of %+v", got)
		}
		f.State = "delivered"
		return f
	}
	d := list[0]
	checkHost(t, h, d.LastAttempt)
	f.State = d.State
	f.Attempts = d.Attempts
	f.Outcome = d.LastAttempt.Outcome
	f.Status = d.LastAttempt.Status
	if f.State == "dead" {
		letters := node.deadLetters("host=" + host)
		if len(letters) != 1 || letters[0].Attempts != d.Attempts || letters[0].LastAttempt != d.LastAttempt {
			t.Fatalf("dead letters %+v", letters)
		}
		f.Reason = letters[0].Reason
	} else {
		f.Next = inWords(time.Until(d.NextAttemptAt))
	}
	if says := d.LastAttempt.Error; d.LastAttempt.Status == 0 && says == "" || d.LastAttempt.Status >= 400 && says != "so it is second line" {
		t.Errorf("last attempt %+v", d.LastAttempt)
	}
	return f
}

// checkHost compares the API's description of a host with the only attempt, if that was not delivered.
func checkHost(t *testing.T, h hostView, failed attemptView) {
	t.Helper()
	state, failures := "healthy", 0
	switch failed.Outcome {
	case "server_error", "unreachable":
		state, failures = "failing", 1
	case "throttled":
		state = "throttled"
	}
	if h.State != state || h.Breaker.State != "closed" || h.Breaker.Failures != failures || h.FailureDays != failures || len(h.FailedOn) != failures {
		t.Errorf("%s with %d failures on %v after %+v, want %s", h.State, h.Breaker.Failures, h.FailedOn, failed, state)
	}
	answered, delivered := failed.Outcome == "" || failed.Status != 0, failed.Outcome == ""
	if h.LastError != failed || h.LastAnswerAt.IsZero() == answered || h.LastSuccessAt.IsZero() == delivered {
		t.Errorf("last error %+v, want %+v, last answer %s, last success %s", h.LastError, failed, h.LastAnswerAt, h.LastSuccessAt)
	}
}

// inWords returns the length of a wait of hours, a part of which has passed.
func inWords(wait time.Duration) string {
	if wait > 58*time.Minute && wait <= 91*time.Minute { // an hour, and half of it at most
		return "schedule"
	}
	return wait.Round(10 * time.Minute).String()
}

// schemes lists the schemes of requests, which must all be genuine.
func schemes(t *testing.T, requests []testinbox.Request) string {
	t.Helper()
	var list []string
	for _, r := range requests {
		list = append(list, string(r.Scheme))
		if !r.Valid {
			t.Errorf("bad signature at %s: %s", r.Path, r.Reason)
		}
	}
	return strings.Join(list, " ")
}
