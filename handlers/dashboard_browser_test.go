package handlers

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

// The dashboard in a real browser, over a real store. Its polls come when a test calls them, so that nothing waits for
// the clock.

const (
	rows    = `[...document.querySelectorAll('.list tbody th')].map(th => th.textContent)`
	heading = `document.querySelector('#page h1').textContent`
	result  = `document.querySelector('.result').textContent`
)

func TestDashboardInBrowser(t *testing.T) {
	browser := startBrowser(t)
	w := newWorld(t)
	t.Run("overview", func(t *testing.T) { testOverview(w, openTab(browser, t, w.url())) })
	t.Run("strangers' texts", func(t *testing.T) { testTexts(w, openPage(browser, t, w.url(), "hosts", "TrustedHTML")) })
	t.Run("problems", func(t *testing.T) { testProblems(browser, t) })
	t.Run("charts", func(t *testing.T) { testCharts(openTab(browser, t, w.url())) })
	t.Run("no history", func(t *testing.T) { testNoHistory(browser, t) })
	t.Run("hosts", func(t *testing.T) { testHosts(openPage(browser, t, w.url(), "hosts")) })
	t.Run("late answer", func(t *testing.T) { testLate(openPage(browser, t, w.url(), "hosts")) })
	t.Run("pages", func(t *testing.T) { testPages(openPage(browser, t, w.url(), "hosts")) })
	t.Run("phone", func(t *testing.T) { testPhone(w, openTab(browser, t, w.url())) })
	t.Run("keyboard", func(t *testing.T) { testKeyboard(openTab(browser, t, w.url())) })
	t.Run("lost", func(t *testing.T) { testLost(openPage(browser, t, w.url(), "hosts/a%/b")) })
	t.Run("hidden", func(t *testing.T) { testHidden(openTab(browser, t, w.url())) })
	t.Run("token", func(t *testing.T) { testToken(openPage(browser, t, w.url(withTokens), "hosts", "401")) })
	t.Run("scopes", func(t *testing.T) { testScopes(browser, t) })
	t.Run("live", func(t *testing.T) { testLive(browser, t) })
	t.Run("still", func(t *testing.T) { testStill(browser, t) })
	t.Run("host actions", func(t *testing.T) { testHostActions(browser, t) })
	t.Run("many hosts", func(t *testing.T) { testManyHosts(browser, t) })
	t.Run("host", func(t *testing.T) { testHost(browser, t) })
	t.Run("letters", func(t *testing.T) { testLetters(browser, t) })
	t.Run("four clicks", func(t *testing.T) { testFourClicks(browser, t) })
	t.Run("activity", func(t *testing.T) { testActivity(browser, t) })
	t.Run("keys and node", func(t *testing.T) { testKeysAndNode(browser, t) })
	t.Run("nodes", func(t *testing.T) { testNodes(browser, t) })
	t.Run("what was done", func(t *testing.T) { testDone(browser, t) })
	t.Run("away", func(t *testing.T) { testAway(browser, t) })
}

// problems are the lines of the overview, without what stands below them.
const problems = `[...document.querySelectorAll('.problems b')].map(b => b.textContent)`

func testOverview(w *world, p *tab) {
	p.sees("Live", text("#status"))
	p.sees([]string{"1 host does not answer: its circuit breaker is open"}, problems)
	p.sees([]string{"62", "2", "66", "64"}, `(v => [v[1], v[3], v[4], v[5]])([...document.querySelectorAll('.tiles dd')].map(d => d.textContent))`)
	w.post("ok.example", 1)
	p.poll()
	p.sees("63", `document.querySelectorAll('.tiles dd')[1].textContent`)
	p.sees("Overview · Postrider", `document.title`)
	p.sees("Overview", `document.querySelector('nav [aria-current=page]').textContent`)
	p.follow("open.example")
	p.sees("open.example", heading)
	p.sees("#/hosts/open.example", `location.hash`)
	w.settle("ok.example", queue.Settlement{}, queue.Result{Verdict: queue.Delivered})
}

// testTexts: what strangers wrote is shown letter by letter and does nothing, and could not if the page had a hole.
func testTexts(w *world, p *tab) {
	p.sees([]string{evilHost, "failing", "502 " + evil}, `(tr => [tr.cells[1].textContent, tr.cells[2].textContent,
		tr.querySelector('.error').textContent])(document.querySelector('.list tbody tr'))`)
	p.visit("hosts/gone.example")
	p.sees("410 "+evil, text(".list .error"))
	p.visit("dead-letters")
	p.sees([]string{"https://gone.example/inbox?" + evil, "gone", "410 " + evil}, `(tr => [tr.cells[1].textContent, tr.cells[3].textContent,
		tr.querySelector('.error').textContent])(document.querySelector('.list tbody tr'))`)
	p.follow("https://gone.example/inbox?" + evil)
	p.sees("410 "+evil, text(".said"))
	p.visit("activities/" + w.accept(&queue.Activity{URI: evil, Type: evil, Actor: evil, Body: []byte(`{"x":"<script>1</script>"}`)}, "https://ok.example/inbox"))
	p.sees(evil+" "+evil, heading)
	p.run(`document.querySelector('details').open = true`)
	p.sees("{\n  \"x\": \"<script>1</script>\"\n}", text("pre"))
	p.sees(0, `document.querySelectorAll('#page :is(img, script)').length`)
	p.sees(0, `document.querySelectorAll('#page [onclick], #page [onerror]').length`)
	p.sees("undefined", `typeof window.hit`)
	p.sees("TypeError", `(() => { try { document.body.innerHTML = '<b>' } catch (e) { return e.name } })()`)
}

// pendingRows are the pending deliveries on a host's page: the activity, what it waits for, and the attempts.
const pendingRows = `[...document.querySelectorAll('[aria-labelledby="s-pending"] tbody tr')].map(tr => [tr.querySelector('a'), tr.cells[1], tr.cells[2]].map(e => e.textContent).join(' | '))`

// testHost: a host's page shows what is pending for it by pages, and what that waits for, and how its state changed.
func testHost(browser context.Context, t *testing.T) {
	const host = "busy.example"
	w := newStore(t)
	for i := range 25 {
		w.accept(&queue.Activity{URI: fmt.Sprintf("https://app.example/notes/%d", i), Type: "Create"}, fmt.Sprintf("https://%s/inbox?%d", host, i))
	}
	away := &queue.LastAttempt{At: time.Now(), Outcome: "unreachable", Error: "connection refused"}
	failing := &queue.HostRecord{Breaker: breaker.Record{Failed: true, Failures: 1}, LastError: away}
	w.settle(host, queue.Settlement{Host: failing}, queue.Result{Verdict: queue.Retry, After: 90 * time.Minute, Spent: true, Attempt: away})
	p := openPage(browser, t, w.url(), "hosts/"+host)
	p.sees("Pending (25)", text("#s-pending"))
	p.sees([]any{10, "https://app.example/notes/0 | its next attempt in 1 hr. | 1", "https://app.example/notes/1 | its turn | 0"}, `(all => [all.length, all[0], all[1]])(`+pendingRows+`)`)
	p.follow("Next")
	p.sees([]any{10, "https://app.example/notes/10 | its turn | 0"}, `(all => [all.length, all[0]])(`+pendingRows+`)`)
	p.follow("Next")
	p.sees([]any{5, "https://app.example/notes/20 | its turn | 0"}, `(all => [all.length, all[0]])(`+pendingRows+`)`)

	act := func(action queue.HostAction, order queue.Order) {
		if _, err := w.store.Act(t.Context(), host, action, order); err != nil {
			t.Fatal(err)
		}
	}
	act(queue.Pause, queue.Order{By: "moderators", Reason: "they move"})
	const changes = `[...document.querySelectorAll('.changes li > span')].map(li => li.textContent)`
	p.sees([]string{"paused by moderators: they move", "failing"}, changes)
	p.visit("hosts/" + host)
	p.sees("https://app.example/notes/1 | the end of the pause | 0", pendingRows+`[1]`)
	p.sees([]any{"There are no others in the feed.", true}, `(s => [s.querySelector('[role=status]').textContent, s.querySelector('button').hidden])(document.querySelector('[aria-labelledby^="s-how"]'))`)
	act(queue.Resume, queue.Order{})
	for range 5 {
		act(queue.Pause, queue.Order{By: "moderators"})
		act(queue.Resume, queue.Order{})
	}
	p.visit("hosts")
	p.visit("hosts/" + host)
	p.sees([]any{10, "failing"}, `(all => [all.length, all[0]])(`+changes+`)`)
	p.press(`[aria-labelledby^="s-how"] button`)
	p.sees([]any{13, "failing"}, `(all => [all.length, all[12]])(`+changes+`)`)

	p.follow("https://app.example/notes/0")
	p.sees([]string{"Why it has not arrived", "Its last attempt failed, and it is retried on the schedule. There was no answer: the name, the connection, TLS or the time failed."},
		`[`+heading+`, document.querySelector('.why').textContent]`)
}

// testProblems: hosts that answer and take nothing show, and that all do so is said, for as long as it is so.
func testProblems(browser context.Context, t *testing.T) {
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
	lag := func(o *Options) {
		o.Node = func() NodeStats { return NodeStats{StartedAt: now, WebhookLag: 3 * time.Minute} }
	}
	p := openTab(browser, t, w.url(lag))
	p.sees([]string{
		"Most hosts answer 401 and none accepts: check that receivers can fetch your public key.",
		"2 hosts answer, but refuse everything", "The webhook is behind by 3 minutes.",
	}, problems)
	accepts := queue.HostRecord{Breaker: breaker.Record{LastSuccess: now}, LastAnswer: now, LastSuccess: now}
	w.post("ok.example", 1)
	w.settle("ok.example", queue.Settlement{Host: &accepts}, queue.Result{Verdict: queue.Delivered})
	p.poll()
	p.sees([]string{"2 hosts answer, but refuse everything", "The webhook is behind by 3 minutes."}, problems)
	p.follow("2 hosts answer, but refuse everything")
	p.sees([]string{"a.example", "b.example"}, rows)
	p.visit("hosts?state=throttled")
	p.sees([]string{"throttled", "in 1 hr.", "429 throttled"}, `(c => [c[2].textContent, c[6].textContent,
		c[7].querySelector('.error').textContent])(document.querySelector('.list tbody tr').cells)`)

	empty := openTab(browser, t, newStore(t).url())
	empty.sees([]string{"No problems. "}, problems)
	empty.visit("hosts")
	empty.sees("No hosts yet. They appear once your app hands over its first activity.", text(".none"))
}

// testCharts: charts say by keyboard and in a table what they show.
func testCharts(p *tab) {
	p.sees(4, `document.querySelectorAll('.chart svg').length`)
	p.sees(true, `document.querySelectorAll('.column').length > 60 && document.querySelectorAll('.line').length === 5`)
	p.run(`window.field = document.querySelector('.field'); field.focus()`)
	p.sees([]any{false, "59"}, `[field.querySelector('.tip').hidden, field.ariaValueNow]`)
	key := func(name string) {
		p.run(`field.dispatchEvent(new KeyboardEvent('keydown', {key: '` + name + `', bubbles: true}))`)
	}
	key("Home")
	p.sees([]any{"0", true}, `[field.ariaValueNow, /^\d\d:\d\d: delivered 2,500, dead letters 60$/.test(field.ariaValueText)]`)
	key("ArrowRight")
	p.sees("1", `field.ariaValueNow`)
	p.poll() // what is pointed at stays
	p.sees([]any{"1", false}, `[field.ariaValueNow, field.querySelector('.tip').hidden]`)
	key("Escape")
	p.sees(true, `field.querySelector('.tip').hidden`)
	p.run(`document.querySelector('.chart details').open = true`)
	p.sees([]any{60, "2,500"}, `(rows => [rows.length, rows[59].cells[1].textContent])(document.querySelector('.chart table').tBodies[0].rows)`)
	p.follow("Last day")
	p.sees([]any{144, "#/?range=day"}, `[document.querySelector('.chart table').tBodies[0].rows.length, location.hash]`)
	p.sees("Last day", text(".ranges [aria-current=true]"))
}

// testNoHistory: the page of a node says so if the one that answers is older and keeps no history, and shows the rest.
func testNoHistory(browser context.Context, t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/", newRig(t, func(o *Options) { o.Queue = newStore(t).store }).handler)
	mux.Handle("/v1/stats/history", http.NotFoundHandler())
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	p := openTab(browser, t, srv.URL, "404")
	p.sees("This node keeps no history, so there are no charts.", text("section .none"))
	p.sees([]any{true, "Live"}, `[document.querySelector('.charts').hidden, document.getElementById('status').textContent]`)
}

func testHosts(p *tab) {
	p.sees(50, rows+`.length`)
	p.sees("open (1)", `[...document.querySelector('#f-state').options].find(o => o.value === 'open').textContent`)
	p.choose("#f-state", "open")
	p.sees([]string{"open.example"}, rows)
	p.sees([]string{"open", "1", "0", "in 1 hr."}, `(c => [2, 3, 4, 6].map(i => c[i].textContent))(document.querySelector('.list tbody tr').cells)`)
	p.choose("#f-state", "blocked")
	p.sees([]any{"No host matches.", []string{}}, `[document.querySelector('.none').textContent, `+rows+`]`)
	p.choose("#f-state", "")
	p.write("#f-q", "K.EX")
	p.sees([]string{"ok.example"}, rows)
	p.poll()
	p.sees([]any{[]string{"ok.example"}, "#/hosts?q=K.EX"}, `[`+rows+`, location.hash]`)
	p.do(chromedp.Reload())
	p.sees([]any{[]string{"ok.example"}, "K.EX"}, `[`+rows+`, document.querySelector('#f-q').value]`)
	p.run(`document.querySelector('#f-q').value = ''`)
	p.choose("#f-q", "")
	p.visit("hosts?sort=pending")
	p.sees("descending", `document.querySelector('th[aria-sort]').ariaSort`)
	p.press(`[data-key="sort name"]`)
	p.sees([]any{"#/hosts", "ascending"}, `[location.hash, document.querySelector('th[aria-sort]').ariaSort]`)
	p.run(`history.back()`)
	p.sees("#/hosts?sort=pending", `location.hash`)
}

// testLate: an answer that comes after that to a later question is not shown.
func testLate(p *tab) {
	p.sees(50, rows+`.length`)
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
	p.choose("#f-state", "open")
	p.sees("function", `typeof window.free`)
	p.choose("#f-state", "failing")
	p.sees([]string{evilHost}, rows)
	p.run(`window.free()`)
	p.sees(true, `window.seen`)
	p.sees([]string{evilHost}, rows)
}

func testPages(p *tab) {
	const seen = `[document.querySelector('.pager span').textContent, ` + rows + `[0], [...document.querySelectorAll('.pager a')].map(a => a.textContent)]`
	p.sees([]any{"Page 1, 50 rows", evilHost, []string{"Next"}}, seen)
	p.follow("Next")
	second := []any{"Page 2, 14 rows", "h48.example", []string{"First", "Previous"}}
	p.sees(second, seen)
	p.do(chromedp.Reload())
	p.sees(second, seen)
	p.follow("Previous")
	p.sees([]any{"Page 1, 50 rows", evilHost, []string{"Next"}}, seen)
	p.follow("Next")
	p.sees(second, seen)
	p.write("#f-q", "ok")
	p.sees([]any{[]string{"ok.example"}, true}, `[`+rows+`, document.querySelector('.pager').hidden]`)
}

// everyPage lists the addresses of the pages, each with things on it.
func (w *world) everyPage() []string {
	w.t.Helper()
	list, err := w.store.DeadLetters(w.t.Context(), queue.DeadLetterFilter{}, queue.Page{Limit: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	_ = w.putKey()
	activity := list.Items[0].ActivityID
	return []string{
		"", "?range=day", "hosts", "hosts?sort=pending", "hosts?q=nothing", "hosts/open.example", "hosts/gone.example", "activities", "activities/" + activity,
		"deliveries/" + list.Items[0].ID, "deliveries/none", "dead-letters", "dead-letters?reason=gone", "keys", "actions", "nodes", "nowhere",
	}
}

// testPhone: nothing is wider than a small screen, and each value stands beside its name.
func testPhone(w *world, p *tab) {
	p.expected = "404" // a delivery that there is not
	for _, width := range []int64{320, 390} {
		p.do(chromedp.EmulateViewport(width, 640, chromedp.EmulateMobile))
		for _, at := range w.everyPage() {
			p.visit(at)
			p.settled(at)
			p.sees(width, `document.documentElement.scrollWidth`)
		}
	}
	p.visit("hosts")
	p.sees(`"Last error"`, `getComputedStyle(document.querySelector('.list tbody tr').cells[7], '::before').content`)
}

// testKeyboard: the first stop leads past the head, the page's heading takes the focus, and a dialog gives it back.
func testKeyboard(p *tab) {
	p.sees("Live", text("#status"))
	p.run(`document.getElementById('skip').focus(); document.getElementById('skip').click()`)
	p.sees([]string{"main", "#/"}, `[document.activeElement.id, location.hash]`)
	p.follow("Hosts")
	p.sees("Hosts", `document.activeElement.textContent`)
	p.visit("hosts/ok.example")
	p.press(`[data-verb=pause]`)
	p.sees([]any{true, "reason"}, `[document.querySelector('dialog').open, document.activeElement.name]`)
	p.do(chromedp.KeyEvent("\x1b"))
	p.sees([]any{nil, "pause"}, `[document.querySelector('dialog'), document.activeElement.dataset.verb]`)
}

// testLost: an address without a page, or of something that there is not, leads on.
func testLost(p *tab) {
	p.expected = "404"
	p.sees("There is no such page", heading)
	p.visit("activities/0197f3a0-0000-7000-8000-000000000001")
	p.sees("There is nothing here: it is unknown to the node, or was dropped after its time.", text(".none.alone"))
	p.visit("nowhere")
	p.follow("Go to the overview")
	p.sees("Overview", heading)
}

// turn hides the page, or shows it again.
const turn = `(hidden => {
	Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
	document.dispatchEvent(new Event('visibilitychange'));
})`

// testHidden: a hidden tab sends no requests.
func testHidden(p *tab) {
	p.sees([]any{"Live", "function"}, `[document.getElementById('status').textContent, typeof window.due]`)
	p.run(turn + `(true)`)
	p.sees([]any{"Paused", nil}, `[document.getElementById('status').textContent, window.due]`)
	p.run(turn + `(false)`)
	p.sees([]any{"Live", "function"}, `[document.getElementById('status').textContent, typeof window.due]`)
}

// testAway: the page says when what it shows is old, and goes on by itself.
func testAway(browser context.Context, t *testing.T) {
	g := newRig(t)
	srv := httptest.NewServer(withPast(g.handler))
	t.Cleanup(srv.Close)
	p := openTab(browser, t, srv.URL, "503")
	p.sees("Live", text("#status"))
	g.queue.fail(errAway)
	p.poll()
	p.sees("Not up to date: the store is away", text("#status"))
	g.queue.fail(nil)
	p.poll()
	p.sees("Live", text("#status"))
}

// text is the text of the element with a selector.
func text(selector string) string { return "document.querySelector('" + selector + "').textContent" }
