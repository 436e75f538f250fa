package handlers

import (
	"context"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/google/uuid"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/embedded"
)

// The dashboard in a real browser, over a real store. Its polls come when a test calls them, so that nothing waits for
// the clock.

const (
	evil     = `<img src=x onerror="window.hit = 1"><script>window.hit = 1</script>`
	evilHost = `<b onclick="window.hit=1">bold</b>.example`
	rows     = `[...document.querySelectorAll('#hosts tbody th')].map(th => th.textContent)`
)

func TestDashboardInBrowser(t *testing.T) {
	browser := startBrowser(t)
	w := newWorld(t)
	t.Run("fleet", func(t *testing.T) { testFleet(w, openTab(browser, t, w.url())) })
	t.Run("strangers' texts", func(t *testing.T) { testTexts(openTab(browser, t, w.url(), "TrustedHTML")) })
	t.Run("health", func(t *testing.T) { testHealth(browser, t) })
	t.Run("filter", func(t *testing.T) { testFilter(openTab(browser, t, w.url())) })
	t.Run("late answer", func(t *testing.T) { testLate(openTab(browser, t, w.url())) })
	t.Run("pages", func(t *testing.T) { testPages(openTab(browser, t, w.url())) })
	t.Run("phone", func(t *testing.T) { testPhone(openTab(browser, t, w.url())) })
	t.Run("hidden", func(t *testing.T) { testHidden(openTab(browser, t, w.url())) })
	t.Run("token", func(t *testing.T) { testToken(openTab(browser, t, w.url(withTokens), "401")) })
	t.Run("live", func(t *testing.T) { testLive(browser, t) })
	t.Run("host actions", func(t *testing.T) { testHostActions(browser, t) })
	t.Run("letters", func(t *testing.T) { testLetters(browser, t) })
	t.Run("away", func(t *testing.T) { testAway(browser, t) })
}

func testFleet(w *world, p *tab) {
	p.sees("Live", text("#status"))
	p.sees([]string{"–", "2", "32", "2"}, `['rate', 'delivered', 'pending', 'dead'].map(id => document.getElementById(id).textContent)`)
	p.sees([]string{"34", "32", "0", "0", "1", "1", "0", "0", "0"}, `[...document.querySelectorAll('output')].map(o => o.textContent)`)
	w.post("ok.example", 1)
	w.settle("ok.example", queue.Settlement{}, queue.Result{Verdict: queue.Delivered})
	p.poll()
	p.sees("3", text("#delivered"))
	p.sees(true, `Number(document.getElementById('rate').textContent) > 0`)
}

// testTexts: what strangers wrote is shown letter by letter and does nothing, and could not if the page had a hole.
func testTexts(p *tab) {
	p.sees([]string{evilHost, "failing", "502 " + evil}, `(tr => [tr.cells[0].textContent, tr.cells[1].textContent,
		tr.querySelector('.error').textContent])(document.querySelector('#hosts tbody tr'))`)
	p.sees([]string{"https://gone.example/inbox?" + evil, "gone", "410 " + evil}, `(tr => [tr.cells[0].textContent, tr.cells[1].textContent,
		tr.querySelector('.error').textContent])(document.querySelector('#letters tbody tr'))`)
	p.sees(0, `document.querySelectorAll('main :is(img, script, b, a)').length`)
	p.sees("undefined", `typeof window.hit`)
	p.sees("TypeError", `(() => { try { document.body.innerHTML = '<b>' } catch (e) { return e.name } })()`)
}

// testHealth: hosts that answer and take nothing show, and that all do so is said, for as long as it is so.
func testHealth(browser context.Context, t *testing.T) {
	now := time.Now()
	refused := &queue.LastAttempt{At: now, Status: 401, Outcome: "unauthorized", Error: "no such key"}
	refuses := queue.HostRecord{Refusals: 10, Breaker: breaker.Record{LastSuccess: now}, LastAnswer: now, LastError: refused}
	waits := queue.HostRecord{
		Throttles: 1, Breaker: breaker.Record{LastSuccess: now}, LastAnswer: now, LastError: &queue.LastAttempt{At: now, Status: 429, Outcome: "throttled"},
	}
	w := newStore(t)
	for host, s := range map[string]queue.Settlement{
		"a.example": {Host: &refuses}, "b.example": {Host: &refuses}, "c.example": {Host: &waits, Wait: 90 * time.Minute},
	} {
		w.post(host, 1)
		w.settle(host, s, queue.Result{Verdict: queue.Retry, After: time.Hour, Attempt: s.Host.LastError})
	}
	p := openTab(browser, t, w.url())
	p.sees([]string{"3", "0", "1", "2", "0", "0", "0", "0", "0"}, `[...document.querySelectorAll('output')].map(o => o.textContent)`)
	const warning = `(w => [w.hidden, w.textContent])(document.getElementById('warnings'))`
	p.sees([]any{false, "most hosts answer 401 and none accepts: check that receivers can fetch your public key"}, warning)
	p.click(`#states input[value=throttled]`)
	p.sees([]string{"c.example"}, rows)
	p.sees([]string{"throttled", "in 1 hr.", "429 throttled"}, `(c => [c[1].textContent, c[5].textContent,
		c[6].querySelector('.error').textContent])(document.querySelector('#hosts tbody tr').cells)`)
	p.sees("probe reset pause block", offered)
	p.click(`#states input[value=refusing]`)
	p.sees([]string{"a.example", "b.example"}, rows)
	p.press(`#hosts button[data-key="reset a.example"]`)
	p.sees("a.example is healthy.", text("#done"))
	p.sees([]string{"b.example"}, rows)
	accepts := queue.HostRecord{Breaker: breaker.Record{LastSuccess: now}, LastAnswer: now, LastSuccess: now}
	w.post("ok.example", 1)
	w.settle("ok.example", queue.Settlement{Host: &accepts}, queue.Result{Verdict: queue.Delivered})
	p.poll()
	p.sees([]any{true, ""}, warning)
}

func testFilter(p *tab) {
	p.sees(25, rows+`.length`)
	p.click(`#states input[value=open]`)
	p.sees([]string{"open.example"}, rows)
	p.sees([]string{"open", "1", "0", "in 1 hr."}, `(c => [1, 2, 3, 5].map(i => c[i].textContent))(document.querySelector('#hosts tbody tr').cells)`)
	p.click(`#states input[value=blocked]`)
	p.sees([]any{false, true, []string{}}, `[document.getElementById('no-hosts').hidden, document.getElementById('hosts').hidden, `+rows+`]`)
	p.click(`#states input[value=""]`)
	p.write("#search", "K.EX")
	p.sees([]string{"ok.example"}, rows)
	p.poll()
	p.sees([]string{"ok.example"}, rows)
}

// testLate: an answer that comes after that to a later question is not shown.
func testLate(p *tab) {
	p.sees(25, rows+`.length`)
	p.run(`const realFetch = fetch;
	window.fetch = async (url, options) => {
		const response = await realFetch(url, options);
		if (url.includes('state=open')) {
			const answer = await response.json();
			response.json = async () => {
				await new Promise(free => window.free = free);
				setTimer(() => window.seen = true); // once all that waited for it went on
				return answer;
			};
		}
		return response;
	}`)
	p.click(`#states input[value=open]`)
	p.sees("function", `typeof window.free`)
	p.click(`#states input[value=failing]`)
	p.sees([]string{evilHost}, rows)
	p.run(`window.free()`)
	p.sees(true, `window.seen`)
	p.sees([]string{evilHost}, rows)
}

func testPages(p *tab) {
	const seen = `[document.getElementById('page').textContent, ` + rows + `.length, ` + rows + `[0],
		...['previous', 'next'].map(id => document.getElementById(id).disabled)]`
	p.sees([]any{"Page 1", 25, evilHost, true, false}, seen)
	p.click("#next")
	p.sees([]any{"Page 2", 9, "h23.example", false, true}, seen)
	p.click("#previous")
	p.sees([]any{"Page 1", 25, evilHost, true, false}, seen)
	p.click("#next")
	p.write("#search", "ok")
	p.sees([]any{"Page 1", 1, "ok.example", true, true}, seen)
}

// testPhone: nothing is wider than a small screen, and each value stands beside its name.
func testPhone(p *tab) {
	p.do(chromedp.EmulateViewport(320, 640, chromedp.EmulateMobile))
	p.sees(25, rows+`.length`)
	p.sees(320, `document.documentElement.scrollWidth`)
	p.sees(`"Last error"`, `getComputedStyle(document.querySelector('#hosts tbody tr').cells[6], '::before').content`)
}

// turn hides the page, or shows it again.
const turn = `(hidden => {
	Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
	document.dispatchEvent(new Event('visibilitychange'));
})`

// testHidden: a hidden tab sends no requests.
func testHidden(p *tab) {
	p.sees("Live", text("#status"))
	p.run(turn + `(true)`)
	p.sees([]any{"Paused", nil}, `[document.getElementById('status').textContent, window.due]`)
	p.run(turn + `(false)`)
	p.sees([]any{"Live", "function"}, `[document.getElementById('status').textContent, typeof window.due]`)
}

// testToken: the page asks for a token, says so if it is wrong, and keeps the right one for the tab.
func testToken(p *tab) {
	const hidden = `['main', 'sign-in'].map(id => document.getElementById(id).hidden)`
	p.sees([]any{true, false, "token"}, `[...`+hidden+`, document.activeElement.id]`)
	p.sees(nil, `window.due`)
	p.write("#token", "not the right one!\n") // a space can't be in a token
	p.sees([]any{"not the right one!", false}, `(field => [field.value, field.checkValidity()])(document.getElementById('token'))`)
	p.run(`document.getElementById('token').value = ''`)
	p.write("#token", "0123456789abcdeX\n")
	p.sees("The node did not accept this token.", text("#why"))
	p.write("#token", "0123456789abcdef\n")
	p.sees("Live", text("#status"))
	p.sees([]any{false, true, 25}, `[...`+hidden+`, `+rows+`.length]`)
	p.sees([]any{"0123456789abcdef", 0, "", ""}, `[sessionStorage.getItem('token'), localStorage.length, document.cookie, location.search]`)
	p.click("#forget")
	p.sees([]any{nil, "token"}, `[sessionStorage.getItem('token'), document.activeElement.id]`)
}

// testAway: the page says when what it shows is old, and goes on by itself.
func testAway(browser context.Context, t *testing.T) {
	g := newRig(t)
	srv := httptest.NewServer(g.handler)
	t.Cleanup(srv.Close)
	p := openTab(browser, t, srv.URL, "503")
	p.sees("Live", text("#status"))
	p.sees([]any{false, false}, `['no-hosts', 'no-letters'].map(id => document.getElementById(id).hidden)`)
	g.queue.fail(errAway)
	p.poll()
	p.sees("Not up to date: the store is away", text("#status"))
	g.queue.fail(nil)
	p.poll()
	p.sees("Live", text("#status"))
}

// text is the text of the element with a selector.
func text(selector string) string { return "document.querySelector('" + selector + "').textContent" }

// world is a store with hosts in several states and two dead letters.
type world struct {
	t     *testing.T
	store *embedded.Store
	token uint64
}

func newWorld(t *testing.T) *world {
	w := newStore(t)
	for i := range 30 {
		w.post(fmt.Sprintf("h%02d.example", i), 1)
	}
	alive := &queue.HostRecord{Breaker: breaker.Record{LastSuccess: time.Now()}}
	w.post("ok.example", 2)
	w.settle("ok.example", queue.Settlement{Host: alive}, queue.Result{Verdict: queue.Delivered})
	w.settle("ok.example", queue.Settlement{Host: alive}, queue.Result{Verdict: queue.Delivered})

	bad := &queue.LastAttempt{At: time.Now(), Status: 502, Outcome: "server_error", Error: evil}
	w.post(evilHost, 1)
	w.settle(evilHost, queue.Settlement{Host: &queue.HostRecord{Breaker: breaker.Record{Failed: true, Failures: 1}, LastError: bad}},
		queue.Result{Verdict: queue.Retry, After: time.Hour, Attempt: bad})
	w.post("open.example", 1)
	w.settle("open.example", queue.Settlement{Wait: 90 * time.Minute, Host: &queue.HostRecord{
		Breaker: breaker.Record{State: breaker.Open, Failed: true, Failures: 10},
	}}, queue.Result{Verdict: queue.Retry, After: time.Hour})

	refused := &queue.LastAttempt{At: time.Now(), Status: 403, Outcome: "rejected", Error: "who are you?"}
	gone := &queue.LastAttempt{At: time.Now(), Status: 410, Outcome: "gone", Error: evil}
	w.post("gone.example", 2)
	w.settle("gone.example", queue.Settlement{Host: alive}, queue.Result{Verdict: queue.Dead, Reason: queue.ReasonRejected, Attempt: refused})
	w.settle("gone.example", queue.Settlement{Host: alive}, queue.Result{Verdict: queue.Dead, Reason: queue.ReasonGone, Attempt: gone})
	return w
}

// newStore is a world without anything in it.
func newStore(t *testing.T) *world {
	store, err := embedded.Open(t.TempDir(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return &world{t: t, store: store}
}

// url serves the API of the world, as long as the world lasts.
func (w *world) url(change ...func(*Options)) string {
	g := newRig(w.t, append(change, func(o *Options) { o.Queue = w.store })...)
	srv := httptest.NewServer(g.handler)
	w.t.Cleanup(srv.Close)
	return srv.URL
}

// post accepts n activities for an inbox of a host.
func (w *world) post(host string, n int) {
	w.t.Helper()
	for range n {
		id := uuid.Must(uuid.NewV7()).String()
		s := queue.Submission{
			Activity:    queue.Activity{ID: id, URI: id, KeyID: alice, OrderingKey: id, Priority: queue.Normal, Body: []byte("{}")},
			Recipients:  []queue.Recipient{{Inbox: "https://" + host + "/inbox?" + evil, Host: host}},
			TTL:         time.Hour,
			Idempotency: queue.Idempotency{Key: [32]byte([]byte(id))},
		}
		if _, err := w.store.Enqueue(w.t.Context(), &s); err != nil {
			w.t.Fatal(err)
		}
	}
}

// settle takes one delivery of a host and settles it with the result.
func (w *world) settle(host string, s queue.Settlement, r queue.Result) {
	w.t.Helper()
	w.token++
	lease := lockmgr.Lease{Host: host, Token: w.token, TTL: time.Minute}
	turns, err := w.store.Take(w.t.Context(), []lockmgr.Lease{lease}, 1)
	if err != nil || len(turns) != 1 || len(turns[0].Deliveries) != 1 {
		w.t.Fatalf("took %+v of %s: %v", turns, host, err)
	}
	r.ID, r.Spent = turns[0].Deliveries[0].ID, true
	s.Results, s.Release = []queue.Result{r}, true
	if _, err := w.store.Settle(w.t.Context(), lease, s, 0); err != nil {
		w.t.Fatal(err)
	}
}
