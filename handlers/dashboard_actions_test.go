package handlers

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/postrider/postrider/queue"
)

// stateOf is the state that is shown of a host in a list.
func stateOf(host string) string {
	return `[...document.querySelectorAll('.list tbody tr')].find(tr => tr.cells[1].textContent === '` + host + `').cells[2].textContent`
}

// offered is what can be done.
const offered = `[...document.querySelectorAll('.buttons button')].map(b => b.dataset.verb ?? b.textContent).join(' ')`

// answer presses a button of the dialog.
func (p *tab) answer(value string) { p.t.Helper(); p.press(`dialog [value="` + value + `"]`) }

// question is what the dialog asks.
const question = `document.querySelector('dialog h2')?.textContent`

// testToken: the page asks for a token, says so if it is wrong, and keeps the right one for the tab.
func testToken(p *tab) {
	const hidden = `['page', 'sign-in'].map(id => document.getElementById(id).hidden)`
	p.sees([]any{true, false, "token"}, `[...`+hidden+`, document.activeElement.id]`)
	p.sees(nil, `window.due`)
	p.write("#token", "not the right one!\n") // a space can't be in a token
	p.sees([]any{"not the right one!", false}, `(field => [field.value, field.checkValidity()])(document.getElementById('token'))`)
	p.run(`document.getElementById('token').value = ''`)
	p.write("#token", "0123456789abcdeX\n")
	p.sees("The node did not accept this token.", text("#why"))
	p.write("#token", "0123456789abcdef\n")
	p.sees("Live", text("#status"))
	p.sees([]any{false, true, 50}, `[...`+hidden+`, `+rows+`.length]`)
	p.sees([]any{"0123456789abcdef", 0, "", "", "#/hosts"}, `[sessionStorage.getItem('token'), localStorage.length, document.cookie, location.search, location.hash]`)
	p.click("#forget")
	p.sees([]any{nil, "token"}, `[sessionStorage.getItem('token'), document.activeElement.id]`)
}

// testScopes: a token that can only read sees everything, and that it can change nothing.
func testScopes(browser context.Context, t *testing.T) {
	w := newWorld(t)
	reader := func(o *Options) {
		o.Tokens = []Token{{Name: "reader", Secret: "0123456789reader", Scopes: []Scope{ScopeRead}}}
	}
	p := openPage(browser, t, w.url(reader), "hosts/ok.example", "40")
	p.sees("token", `document.activeElement.id`)
	p.write("#token", "0123456789reader\n")
	const lacks = "Your token does not have the scope “operate”."
	p.sees("pause block", offered)
	p.sees(lacks+" You can look, and change nothing here.", text("#page > div > p.quiet"))
	p.sees("true", `document.querySelector('[data-verb=pause]').ariaDisabled`)
	p.press("[data-verb=pause]")
	p.sees([]any{lacks, nil}, `[`+result+`, document.querySelector('dialog')]`)
}

// testLive: events are shown though no poll comes.
func testLive(browser context.Context, t *testing.T) {
	const title = `document.getElementById('status').title`
	w := newWorld(t)
	p := openPage(browser, t, w.url(), "hosts")
	p.sees(50, rows+`.length`)
	p.sees("Changes appear at once", title)
	if _, err := w.store.Act(t.Context(), "h00.example", queue.Block, queue.Order{}); err != nil {
		t.Fatal(err)
	}
	p.sees("blocked", stateOf("h00.example"))
	p.run(turn + `(true)`)
	p.sees("", title)
	if _, err := w.store.Act(t.Context(), "h00.example", queue.Unblock, queue.Order{}); err != nil {
		t.Fatal(err)
	}
	p.run(turn + `(false)`)
	p.sees("healthy", stateOf("h00.example"))
	p.sees("Changes appear at once", title)
	p.visit("hosts/h00.example")
	const states = `[...document.querySelectorAll('.changes .pill')].map(p => p.textContent)`
	p.sees([]string{"healthy", "blocked"}, states)
	p.sees(1, `document.querySelectorAll('.list tbody tr').length`) // its dead letter
	if _, err := w.store.Act(t.Context(), "h00.example", queue.Pause, queue.Order{}); err != nil {
		t.Fatal(err)
	}
	p.sees([]string{"paused", "healthy", "blocked"}, states)
	p.sees("resume block", offered)
}

// testStill: a list does not move while it is read. Changes are offered.
func testStill(browser context.Context, t *testing.T) {
	w := newWorld(t)
	p := openPage(browser, t, w.url(), "dead-letters")
	p.sees(2, rows+`.length`)
	p.run(`window.first = document.querySelector('.list tbody tr')`)
	if _, err := w.store.Act(t.Context(), "h00.example", queue.Block, queue.Order{}); err != nil {
		t.Fatal(err)
	}
	p.sees("1 row new here", `document.querySelector('.changed span')?.textContent`)
	p.sees([]any{2, true}, `[`+rows+`.length, first === document.querySelector('.list tbody tr')]`)
	p.press(".changed button")
	p.sees([]any{3, nil}, `[`+rows+`.length, document.querySelector('.changed span')]`)
	if _, err := w.store.DeleteDead(t.Context(), queue.DeadLetterChoice{Filter: queue.DeadLetterFilter{Host: "gone.example"}}); err != nil {
		t.Fatal(err)
	}
	p.poll()
	p.sees([]any{"2 rows no longer here", 3, 2}, `[document.querySelector('.changed span')?.textContent, `+rows+`.length, document.querySelectorAll('.stale').length]`)
}

func testHostActions(browser context.Context, t *testing.T) {
	w := newWorld(t)
	p := openPage(browser, t, w.url(), "hosts/ok.example")
	press := func(verb string) { p.t.Helper(); p.press(`[data-verb=` + verb + `]`) }
	p.sees("pause block", offered)
	p.run(`window.bodies = []; const realFetch = fetch; window.fetch = (url, options) => { if (options.method === 'POST') bodies.push(options.body ?? null); return realFetch(url, options) }`)
	press("pause")
	p.sees("Pause ok.example?", question)
	p.answer("no")
	p.sees([]any{nil, 0}, `[document.querySelector('dialog'), bodies.length]`)
	press("pause")
	p.answer("yes")
	p.sees("Paused ok.example.", result)
	p.sees("resume block", offered)
	p.sees([]any{nil}, `bodies`) // nothing was filled in
	press("resume")
	p.sees("Resumed ok.example.", result)
	p.sees("pause block", offered)
	w.post("ok.example", 3)
	p.poll()
	p.sees(true, `document.querySelector('.facts').textContent.includes('Pending3')`)
	press("block")
	p.sees([]string{"Block ok.example?", "Refuses new deliveries. Pending ones become dead letters.", "Deliveries pending now: 3. They become dead letters."},
		`['h2', 'p', 'p:nth-of-type(2)'].map(s => document.querySelector('dialog ' + s).textContent)`)
	p.answer("yes")
	p.sees("Blocked ok.example.", result)
	p.sees("unblock", offered)
	press("unblock")
	p.sees("pause block", offered)
	p.visit("hosts/open.example")
	p.sees("probe reset pause block", offered)
	press("probe")
	p.sees("Probed open.example.", result)
	press("reset")
	p.sees("Reset open.example.", result)
	p.sees("pause block", offered)

	press("pause")
	p.sees("Pause open.example?", question)
	p.run(`document.querySelector('#d-reason').value = '<i>moving</i>'; document.querySelector('#d-subdomains').checked = true`)
	p.answer("yes")
	p.sees(true, `/^Paused(now|\d+ sec. ago): <i>moving<.i>, until somebody ends it, with all its subdomains$/.test([...document.querySelectorAll('.facts div')].at(-1).textContent)`)
	p.sees("paused: <i>moving</i>", text(".changes li span"))
	press("resume")
	p.sees("pause block", offered)

	p.run(`window.fetch = (url, options) => { bodies.push(options.body); return Promise.resolve(new Response('{"detail":"the store is away"}', {status: 503})) }; bodies.length = 0`)
	press("pause")
	p.sees("Pause open.example?", question)
	p.run(`document.querySelector('#d-reason').value = 'maintenance'; document.querySelector('#d-until').value = '2026-12-24T18:00'`)
	p.answer("yes")
	p.sees("That failed: the store is away.", result)
	p.sees(true, `bodies.includes(JSON.stringify({reason: 'maintenance', until: new Date('2026-12-24T18:00').toISOString()}))`)
}

// testManyHosts: actions on a selection change the rows where they are.
func testManyHosts(browser context.Context, t *testing.T) {
	w := newWorld(t)
	p := openPage(browser, t, w.url(), "hosts?q=h1")
	p.sees(10, rows+`.length`)
	p.sees("", offered)
	p.press(`[aria-label="Select h10.example"]`)
	p.press(`[aria-label="Select h12.example"]`)
	p.sees([]string{"2 hosts selected", "pause block"}, `[document.querySelector('.chosen').textContent, `+offered+`]`)
	p.press("[data-verb=pause]")
	p.sees("Pause 2 hosts?", question)
	p.answer("yes")
	p.sees("Paused 2 hosts.", result)
	p.sees([]string{"paused", "healthy", "paused"}, fmt.Sprintf(`[%s, %s, %s]`, stateOf("h10.example"), stateOf("h11.example"), stateOf("h12.example")))
	p.sees("resume block", offered)
	p.click(".check input")
	p.sees([]string{"10 hosts selected", "pause resume block"}, `[document.querySelector('.chosen').textContent, `+offered+`]`)
	p.visit("hosts?state=open")
	p.sees([]string{"open.example"}, rows)
	p.sees("Reset all open hosts…", offered)
	p.press(".buttons button")
	p.sees("Reset all 1 open host?", question)
	p.answer("yes")
	p.sees([]any{"Reset 1 host.", []string{}}, `[`+result+`, `+rows+`]`)
}

func testLetters(browser context.Context, t *testing.T) {
	w := newWorld(t)
	p := openPage(browser, t, w.url(), "dead-letters")
	const shown = `[...document.querySelectorAll('.list tbody tr')].map(tr => tr.cells[3].textContent)`
	p.sees([]string{"gone", "rejected"}, shown)
	p.sees(texts(queue.Reasons), `[...document.querySelector('#f-reason').options].slice(1).map(o => o.value)`)
	p.sees([]string{"Retry all that match (2)", "Delete all that match (2)"}, `[...document.querySelectorAll('.buttons button')].map(b => b.textContent)`)
	p.press("[data-verb=retry]")
	p.sees("Retry 2 dead letters?", question)
	p.answer("no")
	p.choose("#f-reason", "rejected")
	p.sees([]string{"rejected"}, shown)
	p.sees("Delete all that match (1)", text("[data-verb=delete]"))
	p.press("[data-verb=delete]")
	p.sees([]string{"Delete 1 dead letter?", "With reason rejected."}, `[`+question+`, document.querySelector('dialog p').textContent]`)
	p.answer("yes")
	p.sees([]string{"Deleted 1 of 1 dead letter.", "No dead letter matches."}, `[`+result+`, document.querySelector('.none').textContent]`)
	p.choose("#f-reason", "")
	p.sees([]string{"gone"}, shown)
	p.run(`document.querySelector('#f-host').value = 'other.example'; document.querySelector('.filters').requestSubmit()`)
	p.sees([]string{}, shown)
	p.visit("dead-letters?host=gone.example&since=1h")
	p.sees([]string{"gone"}, shown)
	p.press(".tick input")
	p.sees("Retry 1 selected", text("[data-verb=retry]"))
	p.press("[data-verb=retry]")
	p.answer("yes")
	p.sees("Retried 1 of 1 dead letter.", result)
	p.sees([]string{}, shown)
	if host, err := w.store.Host(t.Context(), "gone.example"); err != nil || host.Pending != 1 {
		t.Errorf("pending %d, %v", host.Pending, err)
	}
}

// testFourClicks: why a post did not reach a host is found by at most four clicks from the overview, from the post and from the
// host, and nothing has to be written for that. There a dead letter can be retried.
func testFourClicks(browser context.Context, t *testing.T) {
	const note, other, letter = "https://app.example/notes/1", "https://app.example/notes/2", "https://gone.example/inbox?" + evil
	w := newWorld(t)
	w.accept(&queue.Activity{URI: note, Type: "Create"}, "https://ok.example/inbox", "https://pau.example/inbox")
	if _, err := w.store.Act(t.Context(), "pau.example", queue.Pause, queue.Order{}); err != nil {
		t.Fatal(err)
	}
	w.accept(&queue.Activity{URI: other, Type: "Create"}, "https://open.example/inbox")
	const paused, gone = "It waits because an operator paused the host.", "The inbox does not exist any more (404 or 410)."
	p := openTab(browser, t, w.url())
	for _, way := range []struct {
		clicks []string
		why    string
	}{
		{[]string{"Activities", note, "https://pau.example/inbox"}, paused},
		{[]string{"Hosts", "Next", "pau.example", note}, paused},
		{[]string{"open.example", other}, "It waits because the host is open. Too many attempts in a row failed, so its circuit breaker is open: " +
			"it gets one probe at a time until one is answered. Meanwhile its deliveries wait and spend no attempts."},
		{[]string{"Dead letters", letter}, gone},
	} {
		p.visit("")
		p.sees("Overview", heading)
		if len(way.clicks) > 4 {
			t.Errorf("%d clicks", len(way.clicks))
		}
		for _, link := range way.clicks {
			p.follow(link)
		}
		p.sees([]string{"Why it has not arrived", way.why}, `[`+heading+`, document.querySelector('.why').textContent]`)
	}
	p.sees([]string{"410", "gone"}, `(c => [c[1].textContent, c[2].textContent])(document.querySelector('.list tbody tr').cells)`)
	p.press(".buttons button") // retries
	p.answer("yes")
	p.sees("Retried 1 of 1 dead letter.", result)
	p.sees("pending", text(".lead .pill"))
}

func testActivity(browser context.Context, t *testing.T) {
	w := newWorld(t)
	inboxes := make([]string, 60)
	for i := range inboxes {
		inboxes[i] = fmt.Sprintf("https://h%02d.example/inbox", i)
	}
	id := w.accept(&queue.Activity{URI: "https://app.example/notes/1", Type: "Create", Actor: "https://app.example/bob", Metadata: []byte(`{"n":1}`)}, inboxes...)
	p := openPage(browser, t, w.url(), "activities?actor=https%3A%2F%2Fapp.example%2Fbob")
	p.sees([]string{"https://app.example/notes/1"}, rows)
	p.run(`document.querySelector('#f-actor').value = ''; document.querySelector('#f-type').value = 'Like'; document.querySelector('.filters').requestSubmit()`)
	p.sees([]any{[]string{}, "#/activities?type=Like"}, `[`+rows+`, location.hash]`)
	p.visit("activities?activity_id=https%3A%2F%2Fapp.example%2Fnotes%2F1&state=pending&since=1h")
	p.follow("https://app.example/notes/1")
	p.sees([]any{"#/activities/" + id, 50, "0 of 60 deliveries were delivered, 60 pending."}, `[location.hash, `+rows+`.length, document.querySelector('.lead p:nth-of-type(2)').textContent]`)
	p.write("#f-host", "h57")
	p.sees([]string{"https://h57.example/inbox"}, rows)
	p.sees("1 delivery found.", text(".hint[role=status]"))
	p.press(".buttons button")
	p.sees("Cancel 60 pending deliveries?", question)
	p.answer("yes")
	p.sees("Cancelled 60 deliveries.", result)
	p.sees("cancelled", text(".lead .pill"))
}

// putKey stores a key.
func (w *world) putKey() queue.Key {
	w.t.Helper()
	k := queue.Key{ID: alice, Algorithm: "ed25519", Fingerprint: "f9c2e1d04b7a8356f9c2e1d04b7a8356f9c2e1d04b7a8356f9c2e1d04b7a8356", Sealed: make([]byte, 60)}
	if _, err := w.store.PutKey(w.t.Context(), k); err != nil {
		w.t.Fatal(err)
	}
	return k
}

func testKeysAndNode(browser context.Context, t *testing.T) {
	w := newWorld(t)
	w.putKey()
	busy := func(o *Options) {
		o.Node = func() NodeStats {
			return NodeStats{StartedAt: time.Now().Add(-49 * time.Hour), Signing: "go", InFlight: 3, Concurrency: 512, Attempts: map[string]int64{"delivered": 2, "gone": 1}}
		}
	}
	p := openPage(browser, t, w.url(busy), "keys")
	p.sees([]string{alice, "ed25519", "62"}, `(c => [0, 1, 2].map(i => c[i].textContent))(document.querySelector('.list tbody tr').cells)`)
	p.run(`document.querySelector('#f-key_id').value = 'x'; document.querySelector('.filters').requestSubmit()`)
	p.sees("There is no key with this ID. Deliveries that need it wait for it.", text(".none"))
	p.follow("Nodes")
	p.sees([]string{"1.2.3", "go"}, `['Version', 'Signs by'].map(name => [...document.querySelectorAll('.facts div')].find(d => d.firstChild.textContent === name).lastChild.textContent)`)
	p.sees([]string{"delivered", "gone"}, `[...document.querySelectorAll('section .list tbody th')].map(th => th.textContent)`)
	p.sees("ready", text(".lead .pill"))
}
