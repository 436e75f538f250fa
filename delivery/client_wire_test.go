package delivery

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// serveRaw starts a TCP server that runs script for each connection and closes it then.
func serveRaw(t *testing.T, script func(net.Conn)) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				script(conn)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); running.Wait() })
	return l.Addr()
}

// The request goes out as it is, with nothing added but what HTTP needs, also where it has to be repeated because the
// inbox closes a connection it had kept.
func TestPostWireAndKeptConnectionClosed(t *testing.T) {
	const ok = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
	var sent sync.Map // request heads by number
	count := make(chan int, 10)
	count <- 0
	addr := serveRaw(t, func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for {
			head, err := readRaw(r)
			if err != nil {
				return
			}
			n := <-count + 1
			sent.Store(n, head)
			count <- n
			if n == 2 {
				return // closes without an answer
			}
			_, _ = io.WriteString(conn, ok)
		}
	})
	c := newClient(t, ClientOptions{Policy: loopback})
	for i := range 2 {
		req := newPost(t, "http://"+addr.String()+"/a%2Fb?c")
		if got := c.Post(req); got.Status != 202 || got.Reused {
			t.Errorf("request %d: got %+v", i, got)
		}
		if diff := cmp.Diff(http.Header{"User-Agent": {"Postrider/test"}}, req.Header); diff != "" {
			t.Errorf("the caller's header was changed:\n%s", diff)
		}
	}
	want := "POST /a%2Fb?c HTTP/1.1\r\nHost: " + addr.String() + "\r\nUser-Agent: Postrider/test\r\n" +
		"Content-Length: 15\r\n\r\n" + `{"type":"Like"}`
	for n := 1; n <= 3; n++ {
		got, _ := sent.Load(n)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("request %d on the wire:\n%s", n, diff)
		}
	}
	if n := <-count; n != 3 {
		t.Errorf("%d requests were sent, want 3", n)
	}
}

// readRaw reads one request of newPost as it came.
func readRaw(r *bufio.Reader) (string, error) {
	var raw strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		raw.WriteString(line)
		if line == "\r\n" {
			break
		}
	}
	_, err := io.CopyN(&raw, r, int64(len(`{"type":"Like"}`)))
	return raw.String(), err
}

// A host that hangs up on a new connection is not asked again.
func TestPostDoesNotInsist(t *testing.T) {
	conns := make(chan struct{}, 100)
	addr := serveRaw(t, func(conn net.Conn) {
		conns <- struct{}{}
		_, _ = readRaw(bufio.NewReader(conn))
	})
	got := newClient(t, ClientOptions{Policy: loopback}).Post(newPost(t, "http://"+addr.String()))
	if got.Err == nil || got.Status != 0 || got.TimedOut || len(conns) != 1 {
		t.Errorf("got %+v after %d connections", got, len(conns))
	}
}

func TestPostMisbehavingInbox(t *testing.T) {
	const ok = "HTTP/1.1 202 Accepted\r\n"
	broken := Answer{}
	tests := []struct {
		name string
		send string // the answer's start
		loop string // then this, until the client hangs up; if "" the connection is closed
		mute bool   // or kept open and silent
		want Answer // but for Err, which is wanted if there is no status
	}{
		{name: "closes at once", want: broken},
		{name: "no HTTP", send: "220 mail.example ESMTP\r\n", want: broken},
		{name: "other protocol version", send: "HTTP/9 200 OK\r\n\r\n", want: broken},
		{name: "truncated status line", send: "HTTP/1.1 20", want: broken},
		{name: "truncated head", send: ok + "Server: x\r\n", want: broken},
		{name: "truncated head, silent", send: ok + "Server: x\r\n", mute: true, want: Answer{TimedOut: true}},
		{name: "silent", mute: true, want: Answer{TimedOut: true}},
		{name: "bad field", send: ok + "no colon\r\n\r\n", want: broken},
		{name: "two lengths", send: ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", want: broken},
		{name: "negative length", send: ok + "Content-Length: -1\r\n\r\n", want: broken},
		{name: "status 0", send: "HTTP/1.1 000 Nothing\r\n\r\n", want: broken},
		{name: "status 99", send: "HTTP/1.1 099 Low\r\n\r\n", want: broken},
		{name: "status 600", send: "HTTP/1.1 600 High\r\n\r\n", want: broken},
		{name: "status beyond numbers", send: "HTTP/1.1 2OO Okay\r\n\r\n", want: broken},
		{name: "switches protocols", mute: true, want: broken,
			send: "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: tea\r\n\r\n"},
		{name: "1xx without end", loop: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", want: broken},
		{name: "field without end", send: ok + "X: ", loop: strings.Repeat("a", 1024), want: broken},
		{name: "head without end", send: ok, loop: "X: " + strings.Repeat("a", 1021) + "\r\n", want: broken},
		{name: "1xx, then an answer", send: "HTTP/1.1 100 Continue\r\n\r\n" + ok + "\r\n", want: Answer{Status: 202}},
		{name: "truncated body", send: ok + "Content-Length: 100\r\n\r\nabc", want: Answer{Status: 202}},
		{name: "truncated body of an error", send: "HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\nabc",
			want: Answer{Status: 500, Excerpt: "abc"}},
		{name: "body that stops", send: ok + "Content-Length: 100\r\n\r\nabc", mute: true,
			want: Answer{Status: 202, TimedOut: true}},
		{name: "body without end", send: ok + "\r\n", loop: strings.Repeat("a", 1024), want: Answer{Status: 202}},
		{name: "chunks without end", send: ok + "Transfer-Encoding: chunked\r\n\r\n",
			loop: "1\r\na\r\n", want: Answer{Status: 202}},
		{name: "broken chunks", send: ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", want: Answer{Status: 202}},
		{name: "unasked compression", send: ok + "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
			want: Answer{Status: 202}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			gone := make(chan struct{})
			addr := serveRaw(t, func(conn net.Conn) {
				defer close(gone)
				if _, err := readRaw(bufio.NewReader(conn)); err != nil {
					t.Errorf("read the request: %v", err)
				}
				_, err := io.WriteString(conn, tt.send)
				for tt.loop != "" && err == nil {
					_, err = io.WriteString(conn, tt.loop)
				}
				if tt.mute {
					_, _ = io.Copy(io.Discard, conn)
				}
			})
			o := ClientOptions{Policy: loopback}
			if tt.want.TimedOut {
				o.AttemptTimeout = 50 * time.Millisecond
			}
			got := newClient(t, o).Post(newPost(t, "http://"+addr.String()))
			if (got.Err != nil) != (tt.want.Status == 0) {
				t.Errorf("got error %v", got.Err)
			}
			got.Err = nil
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			<-gone // the connection was dropped, without Close
		})
	}
}
