package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
)

// wild is an answer that would spoil a log, a terminal or a page, and tame is the text that is kept of it.
const (
	wild = "a\x1b[31mb\u202ec\u009bd\x07"
	tame = "a[31mbcd"
)

// TestTextOfStrangers checks that answers of hosts are kept and logged in a form that is safe to show anywhere.
func TestTextOfStrangers(t *testing.T) { onBothStores(t, testTextOfStrangers) }

func testTextOfStrangers(t *testing.T, s store) {
	answer := func(status int, location, body string) http.Handler {
		return testinbox.New(testinbox.Options{Unsigned: true, Script: func(testinbox.Request) testinbox.Reply {
			return testinbox.Reply{Status: status, Header: http.Header{"Location": {location}}, Body: body}
		}})
	}
	rows := []struct {
		host http.Handler
		says string
	}{
		{answer(403, "", wild), tame},
		{answer(403, "", `{"error":{"message":`+harness.JSON(wild)+`}}`), tame},
		{answer(403, "", "<html><title>"+wild+"&#27;</title>"), tame},
		{answer(302, "https://elsewhere.example/inbox", "<html>"), "https://elsewhere.example/inbox"},
		{raw("HTTP/1.1 202 Accepted\r\nA " + wild + "\r\n\r\n"), "malformed MIME header"},
		{raw("SMTP/1.1 " + wild + "\r\n\r\n"), "malformed HTTP"},
	}
	fleet := startFleet(t, len(rows), func(i int) http.Handler { return rows[i].host })
	node := s.startNode(t, "--retry-base", "1h", "--log-level", "debug")
	for i, row := range rows {
		a := node.deliver(like(fmt.Sprint(i)), fleet.Inbox(i, "/inbox"))
		var got string
		harness.Eventually(t, "an attempt is made", func() bool {
			list := node.deliveries(a)
			if len(list) == 0 {
				return false
			}
			got = list[0].LastAttempt.Error
			return !list[0].LastAttempt.At.IsZero()
		})
		if !strings.Contains(got, row.says) || strings.ContainsFunc(got, unfit) {
			t.Errorf("host %d: kept %q, want %q", i, got, row.says)
		}
	}
	node.checkLog()
}

// TestUnaskedAnswers checks that data which a host sends without a request does not reach the log as net/http writes it.
func TestUnaskedAnswers(t *testing.T) {
	const answer = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
	closed := make(chan struct{})
	fleet := startFleet(t, 1, func(int) http.Handler {
		return hijack(func(w io.ReadWriter) {
			_, _ = io.WriteString(w, answer+wild)
			_, _ = io.Copy(io.Discard, w) // until the node has seen it
			close(closed)
		})
	})
	node := startProcess(t)
	node.settled(node.deliver(like("1"), fleet.Inbox(0, "/inbox")))
	<-closed
	node.Stop()
	node.checkLog()
}

// checkLog checks that the log of a node consists of lines of JSON that are safe to show.
func (n *testNode) checkLog() {
	n.T.Helper()
	for line := range strings.Lines(n.Out.String()) {
		line = strings.TrimSuffix(line, "\n")
		if !json.Valid([]byte(line)) || strings.ContainsFunc(line, unfit) {
			n.T.Errorf("the node said %q", line)
		}
	}
}

// unfit reports whether a character is unsafe to show.
func unfit(r rune) bool { return !unicode.IsPrint(r) }
