package handlers

import (
	"context"
	"testing"

	"github.com/postrider/postrider/queue"
)

// testLive: events are shown though no poll comes.
func testLive(browser context.Context, t *testing.T) {
	const title = `document.getElementById('status').title`
	w := newWorld(t)
	p := openTab(browser, t, w.url())
	p.sees(25, rows+`.length`)
	p.sees("Changes appear at once", title)
	if _, err := w.store.Act(t.Context(), "h00.example", queue.Block, queue.Order{}); err != nil {
		t.Fatal(err)
	}
	p.sees("blocked", stateOf("h00.example"))
	p.sees("https://h00.example/inbox?"+evil, `document.querySelector('#letters tbody th').textContent`)
	p.run(turn + `(true)`)
	p.sees("", title)
	if _, err := w.store.Act(t.Context(), "h00.example", queue.Unblock, queue.Order{}); err != nil {
		t.Fatal(err)
	}
	p.run(turn + `(false)`)
	p.sees("healthy", stateOf("h00.example"))
	p.sees("Changes appear at once", title)
}

// stateOf is the state that is shown of a host.
func stateOf(host string) string {
	return `[...document.querySelectorAll('#hosts tbody tr')].find(tr => tr.cells[0].textContent === '` + host + `').cells[1].textContent`
}

// offered is what can be done to the host in the first row.
const offered = `[...document.querySelector('#hosts tbody tr').querySelectorAll('button')].map(b => b.textContent).join(' ')`

func testHostActions(browser context.Context, t *testing.T) {
	w := newWorld(t)
	p := openTab(browser, t, w.url())
	press := func(action, host string) { p.press(`#hosts button[data-key="` + action + ` ` + host + `"]`) }
	p.sees(25, rows+`.length`)
	p.write("#search", "ok.")
	p.sees([]string{"ok.example"}, rows)
	p.sees("pause block", offered)
	p.sees("pause ok.example", `document.querySelector('#hosts tbody button').ariaLabel`)
	press("pause", "ok.example")
	p.sees("paused", stateOf("ok.example"))
	p.sees("ok.example is paused.", text("#done"))
	p.sees("resume block", offered)
	p.sees("ok.example", `document.activeElement.dataset.about`)
	press("resume", "ok.example")
	p.sees("pause block", offered)
	p.run(`window.asked = []; window.agree = false; window.confirm = (text) => { asked.push(text); return agree }`)
	w.post("ok.example", 3)
	p.poll()
	p.sees("3", `document.querySelector('#hosts tbody tr').cells[2].textContent`)
	press("block", "ok.example")
	p.sees([]string{"Block ok.example? Its pending deliveries (3) become dead letters."}, `window.asked`)
	p.sees("healthy", stateOf("ok.example"))
	p.run(`window.agree = true`)
	press("block", "ok.example")
	p.sees("blocked", stateOf("ok.example"))
	p.sees("unblock", offered)
	press("unblock", "ok.example")
	p.sees("healthy", stateOf("ok.example"))
	p.click(`#states input[value=open]`)
	p.run(`document.getElementById('search').value = ''`)
	p.write("#search", "open")
	p.sees([]string{"open.example"}, rows)
	p.sees("probe reset pause block", offered)
	press("probe", "open.example")
	p.sees("open.example is open.", text("#done"))
	press("reset", "open.example")
	p.sees("open.example is healthy.", text("#done"))
	p.sees([]string{}, rows)
}

func testLetters(browser context.Context, t *testing.T) {
	w := newWorld(t)
	p := openTab(browser, t, w.url())
	const shown = `[...document.querySelectorAll('#letters tbody tr')].map(tr => tr.cells[1].textContent)`
	p.sees([]string{"gone", "rejected"}, shown)
	p.sees(texts(queue.Reasons), `[...document.getElementById('reason').options].slice(1).map(o => o.value)`)
	p.run(`window.asked = []; window.agree = false; window.confirm = (text) => { asked.push(text); return agree }`)
	p.click("#retry")
	p.sees([]string{"Retry 2 dead letters?"}, `window.asked`)
	p.sees([]string{"gone", "rejected"}, shown)
	p.run(`(reason => { reason.value = 'rejected'; reason.dispatchEvent(new Event('change')) })(document.getElementById('reason'))`)
	p.sees([]string{"rejected"}, shown)
	p.run(`window.agree = true`)
	p.click("#delete")
	p.sees("Delete 1 dead letter (rejected)?", `window.asked.at(-1)`)
	p.sees("Deleted 1 of 1 dead letter.", text("#done"))
	p.sees(false, `document.getElementById('no-letters').hidden`)
	p.run(`(reason => { reason.value = ''; reason.dispatchEvent(new Event('change')) })(document.getElementById('reason'))`)
	p.sees([]string{"gone"}, shown)
	p.press(`#letters button`) // the first retries
	p.sees("Retried 1 of 1 dead letter.", text("#done"))
	p.sees([]string{}, shown)
	p.sees(2, `window.asked.length`)
	if host, err := w.store.Host(t.Context(), "gone.example"); err != nil || host.Pending != 1 {
		t.Errorf("pending %d, %v", host.Pending, err)
	}
	p.run(`window.fetch = () => Promise.resolve(new Response('{"detail":"the store is away"}', {status: 503}))`)
	p.click("#delete")
	p.sees("That failed: the store is away", text("#done"))
}
