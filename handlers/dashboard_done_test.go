package handlers

import (
	"context"
	"testing"

	"github.com/postrider/postrider/queue"
)

// done is what the page Actions shows, without the times.
const done = `[...document.querySelectorAll('.list tbody tr')].map(tr => [0, 1, 3, 4].map(i => tr.cells[i].textContent).join(' | '))`

// testDone: what was done is shown with the newest first, also what is done meanwhile, and that of one host alone.
func testDone(browser context.Context, t *testing.T) {
	w := newWorld(t)
	p := openPage(browser, t, w.url(), "actions")
	p.sees("Nobody did anything yet, or it was too long ago.", text(".none"))
	act := func(host string, action queue.HostAction, o queue.Order) {
		t.Helper()
		if _, err := w.store.Act(t.Context(), host, action, o); err != nil {
			t.Fatal(err)
		}
	}
	for range 120 {
		act("ok.example", queue.Pause, queue.Order{})
		act("ok.example", queue.Resume, queue.Order{})
	}
	act(evilHost, queue.Block, queue.Order{By: evil, Reason: evil, Subdomains: true})
	if err := w.store.FeedAction(queue.WithCaller(t.Context(), "ops"), queue.Event{
		Kind: queue.EventAction, Action: queue.ActionRetryDead, By: "ops", Count: 1200, Filter: &queue.ActionFilter{Host: "gone.example", IDs: []string{"a", "b"}},
	}); err != nil {
		t.Fatal(err)
	}
	p.poll()
	p.sees([]string{
		"dead_letters.retry | ops | host: gone.example; ids: a, b | changed 1,200",
		"host.block | " + evil + " | " + evilHost + " | " + evil + ", with subdomains",
		"host.resume | no token | ok.example | –",
	}, done+`.slice(0, 3)`)
	p.sees(100, done+`.length`)
	p.sees(0, `document.querySelectorAll('#page :is(img, script)').length`)

	w.putKey()
	p.poll()
	p.press(".changed button")
	p.sees("key.put | no token | "+alice+" | –", done+`[0]`)
	p.sees(100, done+`.length`)
	p.run(`document.querySelector('#f-host').value = 'open.example'; document.querySelector('.filters').requestSubmit()`)
	p.sees("Nobody did anything to this host, or it was too long ago.", text(".none"))
	act("open.example", queue.Reset, queue.Order{By: "ops"})
	p.poll()
	p.sees([]string{"host.reset | ops | open.example | –"}, done)
	p.follow("open.example")
	p.sees("open.example", heading)
}
