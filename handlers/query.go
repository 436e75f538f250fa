package handlers

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// checkQuery refuses a query with a parameter that the route does not have, or that stands twice where one value is
// wanted: ignoring it would answer another question than was asked, or change more than was meant. For the same reason
// a query must be well formed: url.URL.Query leaves out what is not.
func (rt *route) checkQuery(raw string) error {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return &problem{
			Status: http.StatusBadRequest, Detail: "the query is malformed",
			Errors: []fault{flaw{codeMalformed, "is not made of names and values, escaped and separated by &"}.at("query")},
		}
	}
	var faults []fault
	var unknown []string
	for _, name := range slices.Sorted(maps.Keys(query)) {
		what := rt.checkParameter(name, query[name])
		if what.code == codeUnknownParameter {
			unknown = append(unknown, printable(name))
		}
		if what != (flaw{}) {
			faults = append(faults, what.at("query."+printable(name)))
		}
		if len(faults) == maxFaults {
			break
		}
	}
	switch {
	case len(unknown) > 0:
		detail := "unknown in the query: " + strings.Join(unknown, ", ")
		return &problem{Status: http.StatusBadRequest, Detail: detail, Errors: faults}
	case len(faults) > 0:
		return unprocessable(faults...)
	}
	return nil
}

// checkParameter checks a query parameter against the table of routes.
func (rt *route) checkParameter(name string, values []string) flaw {
	i := slices.IndexFunc(rt.params, func(p param) bool { return p.in == "query" && p.name == name })
	switch {
	case i < 0:
		return flaw{codeUnknownParameter, "is unknown"}
	case !rt.params[i].list && len(values) > 1:
		return standsTwice
	}
	return flaw{}
}
