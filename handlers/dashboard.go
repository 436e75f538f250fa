package handlers

import (
	"embed"
	"net/http"
	"strconv"

	"github.com/go-chi/chi/v5"
)

// assets are the files of the dashboard.
//
//go:embed dashboard
var assets embed.FS

// asset is a file of the dashboard.
type asset struct{ file, contentType string }

// dashboard is the page at / with what it loads. None of it needs a token: the files are the same for everybody and
// hold no data. The page reads the API, with the token that its user entered.
var dashboard = map[string]asset{
	"/":                    {"index.html", "text/html; charset=utf-8"},
	"/dashboard/app.js":    {"app.js", "text/javascript; charset=utf-8"},
	"/dashboard/style.css": {"style.css", "text/css; charset=utf-8"},
	"/dashboard/icon.svg":  {"icon.svg", "image/svg+xml"},
}

// dashboardPolicy lets the page load its own files and talk to its own node, and nothing else. Hosts, inboxes and
// errors are texts of strangers: should the page ever hand one to the HTML parser, browsers that know Trusted Types
// refuse it. No form may be sent by the browser itself, since that would put the token into an address.
const dashboardPolicy = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

// mountDashboard puts the dashboard on a router.
func mountDashboard(mux chi.Router) {
	for path, a := range dashboard {
		serve := a.serve()
		mux.Get(path, serve)
		mux.Head(path, serve)
	}
}

// serve serves the file.
func (a asset) serve() http.HandlerFunc {
	text, err := assets.ReadFile("dashboard/" + a.file)
	if err != nil {
		panic("handlers: " + err.Error()) // the program was built without it
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", a.contentType)
		h.Set("Content-Length", strconv.Itoa(len(text)))
		h.Set("Content-Security-Policy", dashboardPolicy)
		h.Set("Referrer-Policy", "no-referrer")
		// An error here is the client's connection, which is gone.
		_, _ = w.Write(text)
	}
}
