package handlers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/queue"
)

// oneConn is a listener for one connection.
type oneConn struct {
	conns chan net.Conn
	once  sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c, ok := <-l.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (l *oneConn) Close() error   { l.once.Do(func() { close(l.conns) }); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// connect serves an API to one connection, which needs no network.
func connect(t *testing.T, h http.Handler) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	l := &oneConn{conns: make(chan net.Conn, 1)}
	l.conns <- theirs
	srv := &http.Server{Handler: h}
	var done sync.WaitGroup
	done.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() { _ = srv.Close(); _ = ours.Close(); done.Wait() })
	return ours
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c net.Conn) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp
}

const postHead = "POST /v1/activities HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

func TestSlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, start := newRig(t), time.Now()
		c := connect(t, g.handler)
		send(t, c, postHead+"Content-Length: 100\r\n\r\n{")
		if resp := receive(t, c); resp.StatusCode != 408 || !resp.Close {
			t.Errorf("got %d, close %t", resp.StatusCode, resp.Close)
		}
		if took := time.Since(start); took != bodyTimeout {
			t.Errorf("took %s", took)
		}
		g.wantAllRoom(t)
	})
}

func TestBrokenBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, newRig(t).handler)
		send(t, c, postHead+"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n")
		if resp := receive(t, c); resp.StatusCode != 400 {
			t.Errorf("got %d", resp.StatusCode)
		}
	})
}

// slowQueue takes its time to store.
type slowQueue struct{ *fakeQueue }

func (q slowQueue) Enqueue(ctx context.Context, s *queue.Submission) (queue.Receipt, error) {
	select {
	case <-time.After(storeTimeout - time.Second):
		return q.fakeQueue.Enqueue(ctx, s)
	case <-ctx.Done():
		return queue.Receipt{}, ctx.Err()
	}
}

// TestDeadlineOfBodyIsNotThatOfStore: a body that came in time must not have its call ended by the body's deadline.
func TestDeadlineOfBodyIsNotThatOfStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.Queue = slowQueue{g.queue}
		c, body := connect(t, g.handler), call(anActivity, aKey, anInbox)
		send(t, c, postHead+"Transfer-Encoding: chunked\r\n\r\n")
		time.Sleep(bodyTimeout - time.Second)
		send(t, c, chunk(body)+chunk(""))
		if resp := receive(t, c); resp.StatusCode != 202 {
			t.Errorf("got %d", resp.StatusCode)
		}
	})
}

func chunk(s string) string {
	const digits = "0123456789abcdef"
	n := len(s)
	return string([]byte{digits[n>>12&15], digits[n>>8&15], digits[n>>4&15], digits[n&15]}) + "\r\n" + s + "\r\n"
}

func TestStoreThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.Queue = hangingQueue{g.queue}
		wantProblem(t, g.do("POST", "/v1/activities", call(anActivity, aKey, anInbox)), 503)
	})
}

type hangingQueue struct{ *fakeQueue }

func (q hangingQueue) Enqueue(ctx context.Context, _ *queue.Submission) (queue.Receipt, error) {
	<-ctx.Done()
	return queue.Receipt{}, ctx.Err()
}

func TestTooLargeBodies(t *testing.T) {
	g := newRig(t)
	for length, body := range map[int64]io.Reader{
		maxCall + 1: unreadable{t}, 1 << 40: unreadable{t}, -1: io.LimitReader(spaces{}, maxCall+1),
	} {
		req := newRequest("POST", "/v1/activities", body)
		req.Header.Set("Content-Type", "application/json")
		req.ContentLength = length
		rec := httptest.NewRecorder()
		g.handler.ServeHTTP(rec, req)
		wantProblem(t, rec, 413)
		g.wantAllRoom(t)
	}
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// wantAllRoom checks that no body takes room.
func (g *rig) wantAllRoom(t *testing.T) {
	t.Helper()
	c := g.bodies.room.claim("")
	if !c.tryGrow(maxBodies) {
		t.Error("a body still takes room")
	}
	c.release()
}

// upload is a call that has been sent in part.
type upload struct {
	sent   *io.PipeWriter
	status chan int
}

// upload begins a call that says it has a length, -1 for none, and sends the first bytes of it.
func (g *rig) upload(length int64, first int, headers ...string) *upload {
	r, w := io.Pipe()
	u := &upload{sent: w, status: make(chan int, 1)}
	req := newRequest("POST", "/v1/activities", r)
	req.ContentLength = length
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	go func() {
		rec := httptest.NewRecorder()
		g.handler.ServeHTTP(rec, req)
		_ = r.Close()
		u.status <- rec.Code
	}()
	go func() { _, _ = w.Write(make([]byte, first)) }()
	synctest.Wait()
	return u
}

// breakOff ends a call, whose answer must be a 400.
func (u *upload) breakOff(t *testing.T) {
	t.Helper()
	_ = u.sent.CloseWithError(errors.New("gone"))
	if status := <-u.status; status != 400 {
		t.Errorf("got %d, want 400", status)
	}
}

// TestRoomComesWithBytes checks that a call takes room for what has come of it, not for what it says will come.
func TestRoomComesWithBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		var stalled []*upload
		for i := range 200 {
			stalled = append(stalled, g.upload([]int64{maxCall, -1}[i%2], 1))
		}
		wantStatus(t, g.do("POST", "/v1/activities", largeCall(20_000, false)), 202)
		for _, u := range stalled {
			u.breakOff(t)
		}
		g.wantAllRoom(t)
	})
}

// TestRoomForBodies checks that bodies held at one time are bounded, that a caller whose call finds no room is asked
// to come back, and that room is given back.
func TestRoomForBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		var large []*upload
		for range maxBodies / maxCall {
			large = append(large, g.upload(maxCall, maxCall-1))
		}
		start := time.Now()
		if status := <-g.upload(1, 1).status; status != 503 || time.Since(start) != bodyWait {
			t.Errorf("got %d after %s, want 503", status, time.Since(start))
		}
		for _, u := range large {
			u.breakOff(t)
		}
		wantStatus(t, g.do("POST", "/v1/activities", call(anActivity, aKey, anInbox)), 202)
		g.wantAllRoom(t)
	})
}

// TestBodiesThatWaitForOneAnother checks that of calls that hold part of their room and wait for the rest, some get it, also
// if they hold the same and time out at once.
func TestBodiesThatWaitForOneAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.bodies.room = newShares(8 << 20)
		var calls []*upload
		for range 4 {
			calls = append(calls, g.upload(-1, 2<<20-1)) // which holds 2 MiB
		}
		for _, u := range calls {
			go func() { _, _ = u.sent.Write(make([]byte, 1<<20)); _ = u.sent.Close() }()
		}
		accepted := 0
		for _, u := range calls {
			if status := <-u.status; status == 400 { // it was read, and is not JSON
				accepted++
			}
		}
		if accepted == 0 {
			t.Error("all timed out at once")
		}
	})
}

// TestBodiesOfATokenLeaveRoom checks that one token can't take the room of all.
func TestBodiesOfATokenLeaveRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, withTokens)
		greedy := []string{"Authorization", "Bearer 0123456789abcdef"}
		first := g.upload(maxCall, maxCall-1, greedy...)
		second := g.upload(maxCall, maxCall-1, greedy...)
		rec := g.do("POST", "/v1/activities", call(anActivity, aKey, anInbox), "Authorization", "Bearer fedcba9876543210")
		wantStatus(t, rec, 202)
		if status := <-second.status; status != 503 {
			t.Errorf("the second large call of a token gets %d", status)
		}
		first.breakOff(t)
		_ = second.sent.Close()
	})
}

// wantCutOff checks that the node has closed a connection.
func wantCutOff(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Errorf("the connection is still open: %v", err)
	}
}

// TestClientsThatReadNothing checks that a client that reads no answer holds no room for its call, and is cut off.
func TestClientsThatReadNothing(t *testing.T) {
	body := call(anActivity, aKey, anInbox)
	for target, body := range map[string]string{
		"POST /v1/activities": body, "GET /v1/stats": "", "GET /": "", "GET /nothing": "", "GET /openapi.json": "",
	} {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t)
			c := connect(t, g.handler)
			send(t, c, fmt.Sprintf("%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", target, len(body), body))
			synctest.Wait()
			g.wantAllRoom(t)
			time.Sleep(stuckAfter + time.Second)
			wantCutOff(t, c)
		})
	}
}

// TestDeadlineOfAnAnswerIsNotThatOfTheNext checks that a connection that idled for longer than a client may take for an
// answer still serves, also a call that waits for 100 Continue.
func TestDeadlineOfAnAnswerIsNotThatOfTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, newRig(t).handler)
		answers := bufio.NewReader(c)
		for range 3 {
			body := call(anActivity, aKey, anInbox)
			send(t, c, postHead+fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(body)))
			if resp, err := http.ReadResponse(answers, nil); err != nil || resp.StatusCode != 100 {
				t.Fatalf("%v %v", resp, err)
			}
			send(t, c, body)
			resp, err := http.ReadResponse(answers, nil)
			if err != nil || resp.StatusCode != 202 {
				t.Fatalf("%v %v", resp, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			time.Sleep(bodyTimeout + 2*stuckAfter)
		}
	})
}

func TestNoBodyIsReadFromStrangers(t *testing.T) {
	g := newRig(t, withTokens)
	req := newRequest("POST", "/v1/activities", unreadable{t})
	req.Header.Set("Content-Type", "application/json")
	rec := httptest.NewRecorder()
	g.handler.ServeHTTP(rec, req)
	wantProblem(t, rec, 401)
}

type unreadable struct{ t *testing.T }

func (u unreadable) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

func TestReadAll(t *testing.T) {
	const limit = 300_000
	for _, c := range []struct{ length, size, room int64 }{
		{10_000, 10_000, 10_001}, // and one byte to see the end
		{10_000, -1, firstPart},
		{100_000, 100_000, 100_001},
		{100_000, -1, 2 * firstPart},
		{limit, -1, limit},
		{limit, limit, limit},
		{0, 0, 1},
	} {
		text, held := strings.Repeat("x", int(c.length)), int64(0)
		makeRoom := func(size int64) error { held = size; return nil }
		if got, err := readAll(strings.NewReader(text), c.size, limit, makeRoom); err != nil || string(got) != text || held != c.room {
			t.Errorf("%+v: %d bytes in room for %d, %v", c, len(got), held, err)
		}
	}
}
