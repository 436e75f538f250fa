package handlers

import (
	"bufio"
	"context"
	"errors"
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

const postHead = "POST /v1/activities HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

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
		if !g.bodies.room.TryAcquire(maxBodies) {
			t.Error("the slow body still takes room")
		}
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
		req := httptest.NewRequest("POST", "/v1/activities", body)
		req.Header.Set("Content-Type", "application/json")
		req.ContentLength = length
		rec := httptest.NewRecorder()
		g.handler.ServeHTTP(rec, req)
		wantProblem(t, rec, 413)
		if !g.bodies.room.TryAcquire(maxBodies) {
			t.Fatal("the body still takes room")
		}
		g.bodies.room.Release(maxBodies)
	}
}

type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// TestRoomForBodies: bodies that come in at the same time are bounded, by what they say of themselves, or once they are
// not small by the largest that they could become; who finds no room is told to come back, and room is given back.
func TestRoomForBodies(t *testing.T) {
	for name, length := range map[string]int64{"known": maxCall, "unknown": -1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testRoom(t, length) })
		})
	}
}

func testRoom(t *testing.T, length int64) {
	g := newRig(t)
	var done sync.WaitGroup
	var pipes []*io.PipeWriter
	statuses := make(chan int, 10)
	post := func(length int64) *io.PipeWriter {
		r, w := io.Pipe()
		done.Go(func() {
			req := httptest.NewRequest("POST", "/v1/activities", r)
			req.ContentLength = length
			req.Header.Set("Content-Type", "application/json")
			rec := httptest.NewRecorder()
			g.handler.ServeHTTP(rec, req)
			statuses <- rec.Code
		})
		return w
	}
	for range maxBodies / maxCall {
		w := post(length)
		done.Go(func() { _, _ = w.Write(make([]byte, firstPart+1)) }) // ends when the pipe does
		pipes = append(pipes, w)
	}
	synctest.Wait()
	start := time.Now()
	late := post(1)
	if status := <-statuses; status != 503 || time.Since(start) != bodyWait {
		t.Errorf("got %d after %s, want 503", status, time.Since(start))
	}
	_ = late.Close()
	for _, w := range pipes {
		_ = w.CloseWithError(errors.New("gone"))
		if status := <-statuses; status != 400 {
			t.Errorf("got %d, want 400", status)
		}
	}
	done.Wait()
	wantStatus(t, g.do("POST", "/v1/activities", call(anActivity, aKey, anInbox)), 202)
	if !g.bodies.room.TryAcquire(maxBodies) {
		t.Error("room was not given back")
	}
}

func TestNoBodyIsReadFromStrangers(t *testing.T) {
	g := newRig(t, withTokens)
	req := httptest.NewRequest("POST", "/v1/activities", unreadable{t})
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
	b := newBodies()
	r := httptest.NewRequest("POST", "/", nil)
	for _, c := range []struct{ length, size, room, want int64 }{
		{10_000, 10_000, 10_000, 10_000},
		{10_000, -1, 20_000, 20_000}, // it is small
		{10_000, -1, 5_000, 30_000},  // it is not
		{30_000, -1, 30_000, 30_000}, // as large as may be
		{0, 0, 0, 0},
	} {
		text := strings.Repeat("x", int(c.length))
		m := &room{bodies: b, r: r}
		if err := m.grow(c.room); err != nil {
			t.Fatal(err)
		}
		if got, err := readAll(strings.NewReader(text), c.size, m, 30_000); err != nil || string(got) != text || m.size != c.want {
			t.Errorf("%+v: %d bytes in room for %d, %v", c, len(got), m.size, err)
		}
		m.release()
	}
	if !b.room.TryAcquire(maxBodies) {
		t.Error("room was not given back")
	}
}
