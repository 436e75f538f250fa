package handlers

import (
	"io"
	"net/http"
	"strings"
)

// problemRoute is where the pages about problems are.
const problemRoute = "/problems/{problem}"

// noInboxAcceptedType is the type of the problem of a valid call without an accepted inbox.
const noInboxAcceptedType = "/problems/no-inbox-accepted"

// problemPages are the pages about problems that have a type of their own, which is the page's address. The first line
// is the problem's title.
var problemPages = map[string]string{
	noInboxAcceptedType: `No inbox was accepted

Status 422. There is nothing wrong with the call itself, but none of its inboxes was accepted, so nothing was
stored and nothing will be sent. Each entry of "errors" is one inbox, and its "code" is the reason:

  private_address   the host is, or names, an address that must not be connected to
  bad_url           it is not the URL of an inbox
  http_not_allowed  it is an http:// URL, and the node accepts https:// only
  host_blocked      an operator blocked the host
  host_unavailable  the host has failed for days; only an activity of high priority is still tried
  own_actor         the only recipient is the activity's own actor, to whom nothing is delivered

At most 1,000 are listed. "rejected_more" is the number of the others.

Do not repeat the call: it would get the same answer until an operator or the host changes that. If at least one inbox
is accepted, the answer is 202, and the others are in its "rejected".
`,
}

// noInboxAccepted is the 422 of a valid call without an accepted inbox.
func noInboxAccepted(faults ...fault) *problem {
	title, _, _ := strings.Cut(problemPages[noInboxAcceptedType], "\n")
	return &problem{
		Type: noInboxAcceptedType, Title: title, Status: http.StatusUnprocessableEntity,
		Detail: "no inbox of the call was accepted", Errors: faults,
	}
}

// problemPage is GET /problems/{problem}: what a type of problem means, for people.
func (s *server) problemPage(w http.ResponseWriter, r *http.Request) {
	text, found := problemPages[r.URL.Path]
	if !found {
		s.fail(w, r, &problem{Status: http.StatusNotFound, Detail: "there is no such type of problem"})
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	// An error here is the client's connection, which is gone.
	_, _ = io.WriteString(w, text)
}
