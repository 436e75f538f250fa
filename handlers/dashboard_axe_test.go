package handlers

import (
	"fmt"
	"os"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// InstallAxe installs axe-core, a checker of accessibility, and returns the path of its script.
var InstallAxe func(t *testing.T) string

// violations are the rules of WCAG 2.2 AA, and the habits that axe-core calls best, that the page breaks, with the elements.
const violations = `axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}).then(found => found.passes.length < 10 ? 'axe-core checked next to nothing' :
	found.violations.flatMap(v => v.nodes.map(n => v.id + ': ' + n.target.join(' ') + ' ' + n.any.map(c => c.message).join('; '))).join('\n'))`

// TestDashboardIsAccessible: axe-core finds nothing on any page, in either colour scheme, on a phone and on a desk.
func TestDashboardIsAccessible(t *testing.T) {
	script, err := os.ReadFile(InstallAxe(t))
	if err != nil {
		t.Fatal(err)
	}
	browser := startBrowser(t)
	w := newWorld(t)
	p := openTab(browser, t, w.url(), "404")
	p.sees("Live", text("#status"))
	p.run(string(script))
	for _, scheme := range []string{"light", "dark"} {
		features := []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}
		if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features}); err != nil {
			t.Fatal(err)
		}
		for _, width := range []int64{390, 1280} {
			p.do(chromedp.EmulateViewport(width, 800))
			for _, at := range w.everyPage() {
				p.visit(at)
				p.settled(at)
				p.check(fmt.Sprintf("#/%s, %s, %d px", at, scheme, width))
			}
		}
	}
	p.visit("hosts/ok.example")
	p.press("[data-verb=block]")
	p.check("a dialog")
}

// settled waits until the page at an address has loaded.
func (p *tab) settled(at string) {
	p.t.Helper()
	p.sees([]any{"#/" + at, nil}, `[location.hash, document.querySelector('main[aria-busy]')]`)
}

// check has axe-core check the page.
func (p *tab) check(what string) {
	p.t.Helper()
	found, err := chromedp.Run(p.ctx, chromedp.Evaluate[string](violations, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatal(err)
	}
	if found != "" {
		p.t.Errorf("%s:\n%s", what, found)
	}
}
