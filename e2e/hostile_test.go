package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// badCall is a call that must be refused with a status and, where at is set, with a fault at that place.
type badCall struct {
	name, method, path, body string
	headers                  []string
	status                   int
	at                       string
}

func badCalls() []badCall {
	const inbox = "https://one.example/inbox"
	activity := func(text string) string { return submission{activity: text, inboxes: []string{inbox}}.String() }
	with := func(more string) string {
		return submission{activity: like("1"), inboxes: []string{inbox}, more: more}.String()
	}
	post := func(name, body string, status int, at string) badCall {
		return badCall{name: name, method: http.MethodPost, path: "/v1/activities", body: body, status: status, at: at}
	}
	recipient := func(header, value string) string {
		return with(fmt.Sprintf(`,"recipients":[{"inbox":%q,"headers":{%q:%s}}]`, inbox, header, value))
	}
	list := []badCall{
		post("nothing", "", 400, "body"), post("no JSON", "activity=1", 400, "body"), post("a list", "[]", 400, "body"),
		post("cut off", activity(like("1"))[:60], 400, "body"), post("two calls", with("")+with(""), 400, "body"),
		post("deep", activity(`{"id":"x","type":"Like","object":`+strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000)+`}`), 400, ""),
		post("half a surrogate", activity(`{"id":"https://app.example/\ud800","type":"Like"}`), 422, "body.activity.id"),
		post("no UTF-8", activity("{\"id\":\"https://app.example/\xff\",\"type\":\"Like\"}"), 422, "body.activity.id"),
		post("empty object", "{}", 422, "body.activity"), post("activity missing", `{"key_id":"k","inboxes":["https://one.example/"]}`, 422, "body.activity"),
		post("activity is no JSON", activity(`"text"`), 400, "body.activity"),
		post("activity as text, without an id", activity(`"{\"type\":\"Like\"}"`), 422, "body.activity.id"), post("no id", activity(`{"type":"Like"}`), 422, "body.activity.id"),
		post("id is a number", activity(`{"id":1,"type":"Like"}`), 422, "body.activity.id"),
		post("id twice", activity(`{"id":"a","id":"b","type":"Like"}`), 422, "body.activity.id"),
		post("bto", activity(`{"id":"a","type":"Create","bto":["x"]}`), 422, "body.activity.bto"),
		post("bcc deep down", activity(`{"id":"a","type":"Create","object":{"tag":[{"bcc":"x"}]}}`), 422, "body.activity.object.tag[0].bcc"),
		post("bcc escaped", activity(`{"id":"a","type":"Create","b\u0063c":"x"}`), 422, "body.activity.bcc"),
		post("unknown key", with(`,"key_id":"https://app.example/nobody"`), 422, "body.key_id"),
		post("unknown member", with(`,"priorty":"high"`), 422, "body.priorty"), post("priority", with(`,"priority":"urgent"`), 422, "body.priority"),
		post("expiry", with(`,"expires_in":"soon"`), 422, "body.expires_in"), post("negative expiry", with(`,"expires_in":"-1h"`), 422, "body.expires_in"),
		post("nobody", submission{activity: like("1"), inboxes: []string{}}.String(), 422, "body.inboxes"),
		post("inboxes are text", `{"activity":`+like("1")+`,"key_id":"k","inboxes":"https://one.example/"}`, 422, "body.inboxes"),
		post("reserved header", recipient("Signature", `"x"`), 422, "body.recipients[0].headers.Signature"),
		post("reserved in other case", recipient("hOST", `"x"`), 422, "body.recipients[0].headers.hOST"),
		post("header with a line break", recipient("X-A", `"x\r\nHost: y"`), 422, "body.recipients[0].headers.X-A"),
		post("header that is no name", recipient("X A", `"x"`), 422, "body.recipients[0].headers.X A"),
		post("too many recipients", submission{activity: like("1"), inboxes: make([]string, 100_001)}.String(), 422, ""),
		post("too large an activity", activity(`{"id":"a","type":"Like","pad":"`+strings.Repeat("x", 1<<20)+`"}`), 413, ""),
		{name: "form", method: "POST", path: "/v1/activities", body: with(""), headers: []string{"Content-Type", "application/x-www-form-urlencoded"}, status: 415},
		{name: "zipped", method: "POST", path: "/v1/activities", body: with(""), headers: []string{"Content-Encoding", "gzip"}, status: 415},
		{name: "empty idempotency key", method: "POST", path: "/v1/activities", body: with(""), headers: []string{"Idempotency-Key", ""}, status: 422, at: "header.Idempotency-Key"},
		{name: "method", method: "PATCH", path: "/v1/activities", status: 405}, {name: "route", method: "GET", path: "/v1/nothing", status: 404},
		{name: "activity", method: "GET", path: "/v1/activities/00000000-0000-7000-8000-000000000000", status: 404},
		{name: "activity's name", method: "GET", path: "/v1/activities/..%2f..%2fetc", status: 404},
		{name: "deliveries", method: "GET", path: "/v1/activities/x/deliveries", status: 404},
		{name: "unknown parameter", method: "GET", path: "/v1/hosts?stat=open", status: 400, at: "query.stat"},
		{name: "unknown parameter of a deletion", method: "DELETE", path: "/v1/dead-letters?hots=one.example", status: 400, at: "query.hots"},
		{name: "query that can't be read", method: "DELETE", path: "/v1/dead-letters?host=one.example;dry_run=true", status: 400, at: "query"},
		{name: "body of a call without one", method: "POST", path: "/v1/hosts/one.example/pause", body: `{"minutes":5}`, status: 422, at: "body.minutes"},
		{name: "limit", method: "GET", path: "/v1/hosts?limit=501", status: 422, at: "query.limit"},
		{name: "cursor", method: "GET", path: "/v1/hosts?cursor=%00", status: 422, at: "query.cursor"},
		{name: "state", method: "GET", path: "/v1/hosts?state=sick", status: 422, at: "query.state"},
		{name: "host", method: "GET", path: "/v1/hosts/a%20b", status: 422, at: "path.host"},
		{name: "reason", method: "GET", path: "/v1/dead-letters?reason=because", status: 422, at: "query.reason"},
		{name: "since", method: "GET", path: "/v1/dead-letters?since=today", status: 422, at: "query.since"},
		{name: "key", method: "PUT", path: "/v1/keys", body: `{"key_id":"k","private_key_pem":"-----BEGIN"}`, status: 422, at: "body.private_key_pem"},
		{name: "key's name", method: "PUT", path: "/v1/keys", body: `{"key_id":"","private_key_pem":"x"}`, status: 422, at: "body.key_id"},
		{name: "large key", method: "PUT", path: "/v1/keys", body: strings.Repeat(" ", 1<<20), status: 413},
		{name: "delete no key", method: "DELETE", path: "/v1/keys", status: 422, at: "query.key_id"},
		{name: "delete unknown key", method: "DELETE", path: "/v1/keys?key_id=none", status: 404},
	}
	return list
}

func TestBadCallsNameTheFault(t *testing.T) {
	t.Parallel()
	node := startNode(t)
	for _, c := range badCalls() {
		t.Run(c.name, func(t *testing.T) {
			a := node.Call(c.method, c.path, c.body, c.headers...)
			p, err := problemOf(a)
			if err != nil || a.Status != c.status || p.Status != c.status || p.Title == "" || p.Type == "" {
				t.Fatalf("answered %d, want %d: %v in %.300s", a.Status, c.status, err, a.Body)
			}
			if c.at != "" && (len(p.Errors) == 0 || p.Errors[0].Location != c.at || p.Errors[0].Message == "" || p.Errors[0].Code == "") {
				t.Errorf("want a fault at %s: %.300s", c.at, a.Body)
			}
		})
	}
	if got := get[struct {
		Fleet struct{ Activities, Pending int }
	}](node, "/v1/stats"); got.Fleet.Activities != 0 || got.Fleet.Pending != 0 {
		t.Errorf("something was stored: %+v", got)
	}
}

// TestMemoryIsBounded checks that clients can't make a node use more memory than it promises, and that it goes on working.
func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	const clients, size = 20, 60 << 20
	h := startHost(t, testinbox.Options{})
	node := startProcess(t)
	answers := make([]harness.Answer, clients)
	var sending sync.WaitGroup
	for i := range clients {
		sending.Go(func() {
			body := io.MultiReader(strings.NewReader(`{"key_id":"k","activity":{"pad":"`), padding{})
			length := int64(-1) // half of them don't send it
			if i%2 == 0 {
				length = size
			}
			answers[i] = node.flood(io.LimitReader(body, size), length)
		})
	}
	sending.Wait()
	answered := map[int]int{}
	for _, a := range answers {
		answered[a.Status]++
		if a.Status == http.StatusServiceUnavailable && a.Header.Get("Retry-After") == "" {
			t.Errorf("a client that shall come again is not told when: %s", a.Body)
		}
	}
	// A client that is refused before it has sent all may not get to see the answer.
	if answered[http.StatusBadRequest] == 0 || answered[0]+answered[http.StatusBadRequest]+answered[http.StatusServiceUnavailable] != clients {
		t.Errorf("answers by status: %v", answered)
	}
	most := int64(600 << 20) // 128 MiB of bodies, as much garbage, and the program
	if raceDetector() {
		most *= 3 // for the race detector's memory
	}
	if got := status(t, node.PID(), "VmHWM"); got > most {
		t.Errorf("the node grew to %d MiB, more than %d", got>>20, most>>20)
	} else {
		t.Logf("the node grew to %d MiB; answers by status: %v", got>>20, answered)
	}
	if got := node.settled(node.deliver(like("after"), h.Inbox(0, "/inbox"))); got.Delivered != 1 {
		t.Errorf("counts %+v", got)
	}
}

// flood posts a body and returns the answer, if the client got one.
func (n *testNode) flood(body io.Reader, length int64) harness.Answer {
	req, err := http.NewRequestWithContext(n.T.Context(), http.MethodPost, n.URL("/v1/activities"), body)
	if err != nil {
		return harness.Answer{}
	}
	req.Header.Set("Content-Type", "application/json")
	req.ContentLength = length
	resp, err := n.Client.Do(req)
	if err != nil {
		return harness.Answer{}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return harness.Answer{}
	}
	return harness.Answer{Status: resp.StatusCode, Header: resp.Header, Body: string(text)}
}

// padding is endless text.
type padding struct{}

var someText = strings.Repeat("x", 64<<10)

func (padding) Read(p []byte) (int, error) {
	return copy(p, someText), nil
}

// status reads a line of /proc/PID/status in KiB, and returns bytes.
func status(t *testing.T, pid int, name string) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatalf("no %s in %s", name, text)
	return 0
}

// TestSlowHeadersHoldNobodyUp checks that clients that never finish their heads are disconnected, and meanwhile block no other.
func TestSlowHeadersHoldNobodyUp(t *testing.T) {
	t.Parallel()
	const clients = 200
	h := startHost(t, testinbox.Options{})
	node := startNode(t)
	conns := make([]net.Conn, clients)
	for i := range conns {
		conn, err := net.Dial("tcp", node.Listen)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST /v1/activities HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
			t.Fatal(err)
		}
		conns[i] = conn
	}
	if got := node.settled(node.deliver(like("meanwhile"), h.Inbox(0, "/inbox"))); got.Delivered != 1 {
		t.Errorf("counts %+v", got)
	}
	for i, conn := range conns {
		if err := conn.SetReadDeadline(time.Now().Add(harness.Patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Fatalf("connection %d was not closed: %v", i, err)
		}
	}
}
