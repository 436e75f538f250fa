package handlers

import (
	"embed"
	"io/fs"
	"net/http"
	"path"
	"strconv"

	"github.com/go-chi/chi/v5"
)

// assets are the files of the dashboard.
//
//go:embed dashboard
var assets embed.FS

// asset is a file of the dashboard.
type asset struct{ file, contentType string }

// dashboard is the page at / with what it loads, by path. None of it needs a token: the files are the same for everybody
// and hold no data. The page reads the API, with the token that its user entered.
var dashboard = dashboardFiles()

// contentTypes are those of the dashboard's files.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
}

// dashboardFiles returns the files in assets by the paths that they are served at: index.html is at /.
func dashboardFiles() map[string]asset {
	served := map[string]asset{}
	// The files are in the program: reading them can't fail.
	_ = fs.WalkDir(assets, "dashboard", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		at := "/" + file
		if file == "dashboard/index.html" {
			at = "/"
		}
		served[at] = asset{file, contentTypes[path.Ext(file)]}
		return nil
	})
	return served
}

// dashboardPolicy lets the page load its own files and talk to its own node, and nothing else. Hosts, inboxes and
// errors are texts of strangers: should the page ever hand one to the HTML parser, browsers that know Trusted Types
// refuse it. No form may be sent by the browser itself, since that would put the token into an address.
const dashboardPolicy = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

// mountDashboard puts the dashboard on a router.
func mountDashboard(mux chi.Router) {
	for at, a := range dashboard {
		serve := a.serve()
		mux.Get(at, serve)
		mux.Head(at, serve)
	}
}

// serve serves the file.
func (a asset) serve() http.HandlerFunc {
	text, err := assets.ReadFile(a.file)
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
