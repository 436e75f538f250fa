package handlers

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/postrider/postrider/queue"
)

// TestMemoryOfACallFollowsItsBytes checks that what is allocated for a call of very many recipients, however short and wrong
// they are, is bounded by its bytes and by a little for each of them.
func TestMemoryOfACallFollowsItsBytes(t *testing.T) {
	repeat := func(list, item string, n int) string {
		return call(anActivity, aKey, `"`+list+`":[`+strings.TrimSuffix(strings.Repeat(item+",", n), ",")+`]`)
	}
	distinct := func(list, format string, n int) string {
		items := make([]string, n)
		for i := range items {
			items[i] = fmt.Sprintf(format, i)
		}
		return call(anActivity, aKey, `"`+list+`":[`+strings.Join(items, ",")+`]`)
	}
	for name, body := range map[string]string{
		"same bad inbox":  repeat("inboxes", `"a"`, maxRecipients),
		"bad inboxes":     distinct("inboxes", `"%d"`, maxRecipients),
		"bad recipients":  distinct("recipients", `{"inbox":"%d"}`, maxRecipients),
		"private inboxes": distinct("inboxes", `"https://127.0.0.1/%d"`, maxRecipients),
		"good inboxes":    distinct("inboxes", `"https://one.example/%d"`, maxRecipients),
		"good recipients": distinct("recipients", `{"inbox":"https://one.example/%d"}`, maxRecipients),
		"long":            distinct("inboxes", `"https://one.example/%d/`+strings.Repeat("x", 400)+`"`, maxRecipients),
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			var before, after runtime.MemStats
			req := newRequest(http.MethodPost, "/v1/activities", strings.NewReader(body))
			req.Header.Set("Content-Type", "application/json")
			rec := httptest.NewRecorder()
			runtime.ReadMemStats(&before)
			g.handler.ServeHTTP(rec, req)
			runtime.ReadMemStats(&after)
			took := after.TotalAlloc - before.TotalAlloc
			if most := uint64(4*len(body) + 900*maxRecipients); took > most || rec.Body.Len() > 1<<20 {
				t.Errorf("answered %d: %d KiB were allocated for a body of %d KiB, and the answer has %d KiB",
					rec.Code, took>>10, len(body)>>10, rec.Body.Len()>>10)
			}
			t.Logf("%d KiB for a body of %d KiB", took>>10, len(body)>>10)
		})
	}
}

// TestRejectionsAreCounted checks that many rejections are listed in part and counted, in the answers to accepted calls and
// to others, wherever they were rejected.
func TestRejectionsAreCounted(t *testing.T) {
	const here, there = 700, 800
	inboxes, atStore := make([]string, 0, here+there), map[string]queue.Reason{}
	for i := range here {
		inboxes = append(inboxes, fmt.Sprintf(`"https://10.0.0.1/%d"`, i))
	}
	for i := range there {
		inboxes = append(inboxes, fmt.Sprintf(`"https://one.example/%d"`, i))
		atStore[fmt.Sprintf("https://one.example/%d", i)] = queue.ReasonHostBlocked
	}
	body := func(more ...string) string {
		return call(anActivity, aKey, `"inboxes":[`+strings.Join(append(inboxes, more...), ",")+`]`)
	}
	g := newRig(t)
	g.queue.refuse = atStore
	p := wantProblem(t, g.do("POST", "/v1/activities", body()), 422)
	if last := p.Errors[len(p.Errors)-1]; len(p.Errors) != maxRejections || p.RejectedMore != here+there-maxRejections || last.Location != "body.inboxes[999]" {
		t.Errorf("%d listed, %d more, the last is %+v", len(p.Errors), p.RejectedMore, last)
	}
	for range 2 { // the second is the answer to the first again
		got := decode[accepted](t, g.do("POST", "/v1/activities", body(`"https://two.example/inbox"`), "Idempotency-Key", "k"))
		if got.Accepted != 1 || len(got.Rejected) != maxRejections || got.More != here+there-maxRejections {
			t.Errorf("%d accepted, %d listed, %d more", got.Accepted, len(got.Rejected), got.More)
		}
	}
}
