package handlers

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience is for machines that have much else to do.
const patience = time.Minute

// startBrowser starts a browser and returns its context. Without chromium the test is skipped, or fails if it must not.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("REQUIRE_CHROMIUM") == "1" {
			t.Fatal(err)
		}
		t.Skip("no chromium here; Debian has it in the package chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, // in a container there are neither
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
	)
	allocator, stop := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	t.Cleanup(stop)
	browser, _ := chromedp.NewContext(allocator)
	if err := chromedp.Do(browser); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := chromedp.Cancel(browser); err != nil {
			t.Error(err)
		}
	})
	return browser
}

// tab is a tab of the browser. At the end of its test it must have asked for nothing elsewhere, and had no errors but
// those expected.
type tab struct {
	t   *testing.T
	ctx context.Context

	url      string
	expected string // part of messages of the browser that are no fault, if not ""

	mu         sync.Mutex
	complaints []string // guarded by mu
}

// polled keeps the page's next poll in window.due instead of on the clock.
const polled = `window.due = null;
const setTimer = setTimeout, clearTimer = clearTimeout;
window.setTimeout = (f, ms) => ms < 1000 ? setTimer(f, ms) : (window.due = f, 'due');
window.clearTimeout = (id) => { if (id === 'due') window.due = null; else clearTimer(id); };`

// openTab opens the overview of a dashboard. Messages of the browser with the text expected in them are no fault.
func openTab(browser context.Context, t *testing.T, url string, expected ...string) *tab {
	t.Helper()
	return openPage(browser, t, url, "", expected...)
}

// openPage opens the page at an address of a dashboard.
func openPage(browser context.Context, t *testing.T, url, at string, expected ...string) *tab {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(browser)
	t.Cleanup(closeTab)
	p := &tab{t: t, ctx: ctx, url: url, expected: strings.Join(expected, "")}
	err := chromedp.Listen(ctx, p.note)
	if err == nil {
		_, err = chromedp.Call(ctx, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: polled})
	}
	if err != nil {
		t.Fatal(err)
	}
	p.do(chromedp.Navigate(url + "/#/" + at))
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, complaint := range p.complaints {
			t.Error(complaint)
		}
	})
	return p
}

// note notes what must not happen.
func (p *tab) note(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	complaint := ""
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(e.Request.URL, p.url+"/") && !strings.HasPrefix(e.Request.URL, "data:") { // the browser's own icons
			complaint = "asked for " + e.Request.URL
		}
	case *log.EventEntryAdded:
		if p.expected == "" || !strings.Contains(e.Entry.Text, p.expected) {
			complaint = fmt.Sprintf("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL)
		}
	case *runtime.EventExceptionThrown:
		complaint = fmt.Sprintf("threw %+v", e.ExceptionDetails.Exception)
	}
	if complaint != "" {
		p.complaints = append(p.complaints, complaint)
	}
}

// do does something with the tab, in bounded time.
func (p *tab) do(a chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, a); err != nil {
		p.t.Fatal(err)
	}
}

func (p *tab) run(script string) {
	p.t.Helper()
	p.do(chromedp.Evaluate[chromedp.Void](script))
}

func (p *tab) click(selector string) {
	p.t.Helper()
	p.do(chromedp.Click(selector, chromedp.NodeReady))
}

// press presses a button that may be replaced at any time.
func (p *tab) press(selector string) {
	p.t.Helper()
	p.sees(true, `(b => { b?.focus(); b?.click(); return !!b })(document.querySelector('`+selector+`'))`)
}

func (p *tab) write(selector, keys string) {
	p.t.Helper()
	p.do(chromedp.SendKeys(selector, keys))
}

// visit goes to the page at an address, and waits until the page is there. It may still load.
func (p *tab) visit(at string) {
	p.t.Helper()
	p.do(chromedp.Evaluate[chromedp.Void](`new Promise(there => {
		if (location.hash === '#/`+at+`') there();
		addEventListener('hashchange', there, {once: true});
		location.hash = '#/`+at+`';
	}).then(() => undefined)`, chromedp.EvalAwaitPromise))
}

// follow clicks the first link with a text.
func (p *tab) follow(text string) {
	p.t.Helper()
	p.sees(true, `(a => { a?.click(); return !!a })([...document.querySelectorAll('#page a, nav a')].find(a => a.textContent === '`+text+`'))`)
}

// choose chooses an option of a list.
func (p *tab) choose(selector, value string) {
	p.t.Helper()
	p.run(`(list => { list.value = '` + value + `'; list.dispatchEvent(new Event('change')) })(document.querySelector('` + selector + `'))`)
}

// poll makes the page's next poll, and those that bring the lists too.
func (p *tab) poll() {
	p.t.Helper()
	for range 3 {
		p.sees("function", `typeof window.due`)
		p.run(`(due => { window.due = null; due() })(window.due)`)
	}
}

// sees waits until an expression has the value wanted, looking a hundred times a second.
func (p *tab) sees(want any, expression string) {
	p.t.Helper()
	wanted, err := json.Marshal(want)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	// It stops in the end, so that a failure can show the page.
	script := fmt.Sprintf(`new Promise(done => {
		const wanted = JSON.stringify(%s);
		const look = (left) => {
			let got;
			try { got = String(JSON.stringify(%s)) } catch (e) { got = String(e) }
			if (got === wanted) done(''); else if (!left) done(got); else setTimer(look, 10, left - 1);
		};
		look(2000);
	})`, wanted, expression)
	got, err := chromedp.Run(ctx, chromedp.Evaluate[string](script, chromedp.EvalAwaitPromise))
	for err != nil && strings.Contains(err.Error(), "navigated") && ctx.Err() == nil { // the page is being loaded again
		got, err = chromedp.Run(ctx, chromedp.Evaluate[string](script, chromedp.EvalAwaitPromise))
	}
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	if got != "" {
		p.t.Fatalf("%s\n got %s\nwant %s", expression, got, wanted)
	}
}
