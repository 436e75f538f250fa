package handlers

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/queue"
)

// query reads the parameters of a request, and keeps the first fault.
type query struct {
	url.Values
	err error
}

func queryOf(r *http.Request) *query { return &query{Values: r.URL.Query()} }

// refuse notes what is wrong with a parameter.
func (q *query) refuse(name string, what flaw) {
	if q.err == nil {
		q.err = invalid("query."+name, what)
	}
}

// page reads which part of a list is wanted.
func (q *query) page() queue.Page {
	return queue.Page{Limit: q.number("limit", defaultLimit, maxLimit), Cursor: q.Get("cursor")}
}

// number reads a number from 1 to most, or returns the other one if the parameter is absent.
func (q *query) number(name string, otherwise, most int) int {
	if !q.Has(name) {
		return otherwise
	}
	n, err := strconv.Atoi(q.Get(name))
	if err != nil || n < 1 || n > most {
		q.refuse(name, flaw{codeInvalidValue, "must be a number from 1 to " + strconv.Itoa(most)})
	}
	return n
}

// time reads a time, zero if the parameter is absent.
func (q *query) time(name string) (at time.Time) {
	if text := q.Get(name); text != "" {
		var err error
		if at, err = time.Parse(time.RFC3339, text); err != nil {
			q.refuse(name, notATime)
		}
	}
	return at
}

// oneOf reads one of some values, "" if the parameter is absent.
func oneOf[S ~string](q *query, name string, values []S) S {
	v := S(q.Get(name))
	if v != "" && !slices.Contains(values, v) {
		q.refuse(name, mustBeOneOf(values))
	}
	return v
}

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
		i := slices.IndexFunc(rt.params, func(p param) bool { return p.in == "query" && p.name == name })
		switch location := "query." + repeatable(name); {
		case i < 0:
			unknown = append(unknown, repeatable(name))
			faults = append(faults, flaw{codeUnknownParameter, "is unknown"}.at(location))
		case !rt.params[i].list && len(query[name]) > 1:
			faults = append(faults, standsTwice.at(location))
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
