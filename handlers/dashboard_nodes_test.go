package handlers

import (
	"context"
	"slices"
	"testing"
)

// fleetRows are the names of the nodes, what they do, and the numbers of what they do.
const fleetRows = `[...document.querySelector('.list tbody').rows].map(r => [0, 1, 2, 4, 5].map(i => r.cells[i].textContent).join('|'))`

// testNodes: all nodes of the fleet show, also those that come, and for a while those that go, with what is wrong with them.
func testNodes(browser context.Context, t *testing.T) {
	w := newStore(t)
	fleet := someNodes()
	w.fleet.Store(fleet)
	p := openPage(browser, t, w.url(), "nodes")
	p.sees([]string{
		"api-0-b01d77|takes calls only|1.2.3|–|–",
		"web-1-3f9a2c · this node|delivers|1.2.3|137 of 512|22 of 64",
		"web-2-9d8e01|delivers|1.3.0|3 of 512|21 of 64",
		"web-3-77c0de|no room|1.2.3|512 of 512|0 of 64",
	}, fleetRows)
	p.sees([]any{137, 512, "In flight on web-1-3f9a2c"}, `(m => [m.value, m.max, m.ariaLabel])(document.querySelector('meter'))`)
	p.sees([]string{"2 days 1 hour", "now"}, `(c => [c[3].textContent, c[6].textContent])(document.querySelector('.list tbody').rows[1].cells)`)
	p.sees([]string{"1.3.0"}, `[...document.querySelectorAll('.list td:nth-of-type(2) .pill')].map(p => p.textContent)`)
	p.sees("4 nodes share this store. 652 of at most 1,536 attempts are in flight.", text(".lead"))
	p.sees([]string{"The nodes run different versions: 1.2.3 on 3, 1.3.0 on 1."}, warned)

	// One is upgraded, and another one goes and comes again under another name.
	fleet = someNodes()
	fleet.Nodes[2].NodeInfo.Version = "1.2.3"
	fleet.Nodes[0].Name = "api-0-c0ffee"
	w.fleet.Store(fleet)
	p.poll()
	p.sees([]string{
		"api-0-b01d77|gone|1.2.3|–|–",
		"api-0-c0ffee|takes calls only|1.2.3|–|–",
		"web-1-3f9a2c · this node|delivers|1.2.3|137 of 512|22 of 64",
		"web-2-9d8e01|delivers|1.2.3|3 of 512|21 of 64",
		"web-3-77c0de|no room|1.2.3|512 of 512|0 of 64",
	}, fleetRows)
	p.sees([]any{"4 nodes share this store. 652 of at most 1,536 attempts are in flight.", []string{}, true},
		`[document.querySelector('.lead').textContent, `+warned+`, document.querySelector('.problems').hidden]`)

	only := *fleet
	only.Nodes = slices.Clone(fleet.Nodes[3:])
	w.fleet.Store(&only)
	p.poll()
	p.sees([]string{"No node has room for more work: slow hosts hold all slots, or name servers are away."}, warned)
	only = *fleet
	only.Nodes = slices.Clone(fleet.Nodes[:1])
	w.fleet.Store(&only)
	p.poll()
	p.sees([]string{"No node delivers: what is accepted waits."}, warned)
	p.sees("1 node works on this store.", text(".lead"))
}

// warned are the warnings of a page.
const warned = `[...document.querySelectorAll('.problems p')].map(p => p.textContent)`
