package delivery

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/postrider/postrider/internal/printable"
	"github.com/postrider/postrider/queue"
)

// Report is what Once did. It is for people to read.
type Report struct {
	Outcome Outcome
	Detail  string // what the answer says of the error, or why there was none
	posts   []*post
}

// Once makes one attempt, as a pool does for a host of which nothing is known: it follows a redirect, and sends a second
// request by the other scheme where that may help. It uses the options Signer, Client (a *Client), Policy, AttemptTimeout, AllowHTTP and
// UserAgent. Nothing is stored.
func Once(ctx context.Context, o Options, d queue.Delivery) Report {
	recorder := &recorder{client: o.Client}
	o.Client = recorder
	a := attempt{delivery: d}
	a.tryToMake(ctx, &Pool{Options: o})
	report := Report{Outcome: a.outcome, Detail: a.answer.Excerpt, posts: recorder.posts}
	if a.answer.Err != nil {
		report.Detail = printable.Line(a.answer.Err.Error(), maxShown)
	}
	return report
}

// recorder keeps the requests that a client makes, one after the other, and their answers.
type recorder struct {
	client poster
	posts  []*post
}

// Post implements poster.
func (r *recorder) Post(req *http.Request) Answer {
	p := &post{request: req}
	r.posts = append(r.posts, p)
	answer := r.client.Post(req.WithContext(context.WithValue(req.Context(), postKey{}, p)))
	p.err = answer.Err
	return answer
}

// post is a request and its answer.
type post struct {
	request *http.Request
	err     error // why no answer came

	mu   sync.Mutex // the transport may still read when the attempt's time is up
	head string     // guarded by mu: the first line and the headers of the answer
	body bytes.Buffer
}

type postKey struct{}

// watch keeps the answer of a request that a recorder made; others are left alone.
func watch(ctx context.Context, resp *http.Response) {
	p, ok := ctx.Value(postKey{}).(*post)
	if !ok {
		return
	}
	p.mu.Lock()
	p.head = resp.Proto + " " + resp.Status + "\n" + lines(resp.Header)
	p.mu.Unlock()
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.TeeReader(resp.Body, p), resp.Body}
}

// Write implements io.Writer: it keeps a part of the answer's body.
func (p *post) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.body.Write(b)
}

// lines returns headers in the order of their names.
func lines(h http.Header) string {
	var text strings.Builder
	_ = h.Write(&text) // into memory
	return text.String()
}

const maxShown = 64 << 10 // characters of a line

// WriteTo writes each request after "> " and each answer after "< ", and the outcome in the last line. Text of the other
// server is made safe for a terminal.
func (r Report) WriteTo(w io.Writer) (int64, error) {
	var text bytes.Buffer
	for _, p := range r.posts {
		p.writeTo(&text)
	}
	fmt.Fprintf(&text, "outcome: %s", r.Outcome)
	if r.Detail != "" {
		fmt.Fprintf(&text, ": %s", r.Detail)
	}
	text.WriteByte('\n')
	return text.WriteTo(w)
}

func (p *post) writeTo(text *bytes.Buffer) {
	req := p.request
	var body []byte
	if req.GetBody != nil {
		again, _ := req.GetBody() // it is in memory
		body, _ = io.ReadAll(again)
	}
	fmt.Fprintf(text, "POST to %s\n", req.URL)
	head := fmt.Sprintf("%s %s\nHost: %s\nContent-Length: %d\n", req.Method, req.URL.RequestURI(), req.URL.Host, len(body))
	for line := range strings.Lines(head + lines(req.Header) + "\n" + string(body)) {
		writeLine(text, ">", strings.TrimRight(line, "\r\n"))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	answer := p.head + "\n" + p.body.String()
	if p.head == "" {
		answer = fmt.Sprintf("no answer: %v", p.err)
	}
	for line := range strings.Lines(answer) {
		writeLine(text, "<", printable.Line(line, maxShown))
	}
	text.WriteByte('\n')
}

func writeLine(to *bytes.Buffer, mark, line string) {
	to.WriteString(strings.TrimSuffix(mark+" "+line, " ") + "\n")
}
