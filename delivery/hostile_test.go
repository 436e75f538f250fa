package delivery

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"log"
	"net/http"
	"net/http/httptrace"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/postrider/postrider/internal/testinbox"
)

// patience is how long a test waits for what must happen, on a machine that is busy.
const patience = 30 * time.Second

// startHostile starts hosts that follow a script, and returns a client that trusts them.
func startHostile(t *testing.T, n int, script testinbox.Script, o ClientOptions) (*testinbox.Hostile, *Client) {
	t.Helper()
	hosts, err := testinbox.StartHostile(n, script)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := hosts.Close(); err != nil {
			t.Error(err)
		}
	})
	o.Policy = loopback
	o.RootCAs = x509.NewCertPool()
	o.RootCAs.AppendCertsFromPEM(hosts.CA())
	return hosts, newClient(t, o)
}

// postTo posts a body of n bytes, and reports whether that ended.
func postTo(ctx context.Context, t *testing.T, c *Client, url string, n int) (Answer, bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(make([]byte, n)))
	if err != nil {
		t.Error(err)
		return Answer{}, false
	}
	answered := make(chan Answer, 1)
	go func() { answered <- c.Post(req) }()
	select {
	case a := <-answered:
		return a, true
	case <-time.After(patience):
		return Answer{}, false
	}
}

// countingLog counts what libraries write to the standard logger.
func countingLog(t *testing.T) *atomic.Int64 {
	var written atomic.Int64
	before := log.Writer()
	log.SetOutput(writerFunc(func(p []byte) (int, error) { written.Add(int64(len(p))); return len(p), nil }))
	t.Cleanup(func() { log.SetOutput(before) })
	return &written
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestHostileInboxes checks that an attempt ends for each thing that its host may do, with nothing left of it, and that
// what is kept of it is short.
func TestHostileInboxes(t *testing.T) {
	countingLog(t)
	var attempts sync.WaitGroup
	places := make(chan struct{}, 8)
	for _, script := range testinbox.Scripts() {
		for name, size := range map[string]int{"small": 300, "large": 1 << 20} {
			places <- struct{}{}
			attempts.Go(func() {
				defer func() { <-places }()
				if fault := tryHostile(t, script, size); fault != "" {
					t.Errorf("%s, %s activity: %s", script.Name, name, fault)
				}
			})
		}
	}
	attempts.Wait()
}

// tryHostile makes an attempt at a hostile host, and says what is wrong with how it ended.
func tryHostile(t *testing.T, script testinbox.Script, size int) (fault string) {
	hosts, c := startHostile(t, 1, script, ClientOptions{AttemptTimeout: 2 * time.Second, ConnectTimeout: 2 * time.Second})
	got, ok := postTo(t.Context(), t, c, hosts.Inbox(0, "/inbox"), size)
	switch text := shownError(got.Err); {
	case !ok:
		return "the attempt goes on"
	case script.Answers >= 0 && got.Status != script.Answers && (got.Status != 0 || !got.TimedOut), (got.Err == nil) != (got.Status > 0):
		return fmt.Sprintf("answer %+v, want status %d", got, script.Answers)
	case got.Err != nil && (text == "" || utf8.RuneCountInString(text) > 200 || strings.Contains(text, "->") || strings.Contains(text, "%!")):
		return fmt.Sprintf("error %q", text)
	}
	c.Close()
	closed, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := hosts.WaitClosed(closed); err != nil {
		return "a connection stays open"
	}
	if n := c.late.overdue(); n > 0 {
		return "the attempt is overdue"
	}
	return ""
}

// TestFloodsEndByWhatTheyCost holds that a host which sends and sends ends its attempt by that, long before its
// deadline, and that little more is read of it than it may cost.
func TestFloodsEndByWhatTheyCost(t *testing.T) {
	countingLog(t)
	for _, script := range testinbox.Scripts() {
		if !strings.HasSuffix(script.Name, "without end") {
			continue
		}
		t.Run(script.Name, func(t *testing.T) {
			hosts, c := startHostile(t, 1, script, ClientOptions{AttemptTimeout: time.Hour, ConnectTimeout: time.Hour})
			ctx, last := watchConn(t.Context())
			if got, ok := postTo(ctx, t, c, hosts.Inbox(0, "/inbox"), 300); !ok || got.TimedOut {
				t.Fatalf("the attempt goes on, or has taken an hour: %+v", got)
			}
			conn := last.Load()
			if conn == nil {
				return // it had none, as its handshake failed
			}
			if n := conn.read.Load(); n > attemptBytes+restBytes+largestRead {
				t.Errorf("%d bytes were read", n)
			}
			if n := -conn.budget.calls.Load(); n > lastCalls {
				t.Errorf("%d calls were made above those allowed", n)
			}
		})
	}
}

const (
	largestRead = 64 << 10 // the largest buffer that is read into
	lastCalls   = 500      // on a connection that was closed meanwhile: what was read before has answers
)

// watchConn returns a context for an attempt, and where its last connection is noted.
func watchConn(ctx context.Context) (context.Context, *atomic.Pointer[trackedConn]) {
	last := new(atomic.Pointer[trackedConn])
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		last.Store(trackedOf(info.Conn))
	}}), last
}

// TestFloodOnAnIdleConnection holds that floods between attempts end their connections too.
func TestFloodOnAnIdleConnection(t *testing.T) {
	countingLog(t)
	for _, script := range testinbox.Scripts() {
		if script.Layer != testinbox.HTTP2 || !strings.HasPrefix(script.Name, "answer, then") {
			continue
		}
		t.Run(script.Name, func(t *testing.T) {
			hosts, c := startHostile(t, 1, script, ClientOptions{AttemptTimeout: patience})
			ctx, last := watchConn(t.Context())
			if got, _ := postTo(ctx, t, c, hosts.Inbox(0, "/inbox"), 300); got.Status != http.StatusAccepted {
				t.Errorf("got %+v", got)
			}
			if conn := last.Load(); conn != nil && (conn.budget.bytes.Load() > restBytes || conn.budget.calls.Load() > restCalls) {
				t.Errorf("%d bytes may come between attempts, in %d calls", conn.budget.bytes.Load(), conn.budget.calls.Load())
			}
			closed, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := hosts.WaitClosed(closed); err != nil { // without Close
				t.Errorf("the connection stays open: %v", err)
			}
		})
	}
}

// TestHostileHostsTakeLittleMemory checks that what hosts send without end takes little memory while the attempts last.
func TestHostileHostsTakeLittleMemory(t *testing.T) {
	countingLog(t)
	const hosts, most = 16, 40 << 20
	for _, script := range testinbox.Scripts() {
		if !strings.HasSuffix(script.Name, "without end") || script.Layer == testinbox.TCP {
			continue
		}
		t.Run(script.Name, func(t *testing.T) {
			all, c := startHostile(t, hosts, script, ClientOptions{AttemptTimeout: 1500 * time.Millisecond})
			ctx, cut := context.WithCancel(t.Context())
			defer cut()
			var posts sync.WaitGroup
			for i := range hosts {
				posts.Go(func() { postTo(ctx, t, c, all.Inbox(i, "/inbox"), 300) })
			}
			over := make(chan struct{})
			go func() { posts.Wait(); close(over) }()
			if heapExceeds(most, over) {
				t.Errorf("the heap grew to more than %d MiB", most>>20)
			}
			cut()
			<-over
		})
	}
}

// heapExceeds waits until over is closed, or the heap has more than most bytes without its garbage, of which a busy machine leaves
// any amount, and reports whether it had.
func heapExceeds(most uint64, over <-chan struct{}) bool {
	runtime.GC() // what tests before left
	looks := time.NewTicker(20 * time.Millisecond)
	defer looks.Stop()
	for {
		var memory runtime.MemStats
		if runtime.ReadMemStats(&memory); memory.HeapAlloc > most {
			runtime.GC()
			if runtime.ReadMemStats(&memory); memory.HeapAlloc > most {
				return true
			}
		}
		select {
		case <-over:
			return false
		case <-looks.C:
		}
	}
}

// TestPaddedChainsTakeLittleMemory holds that the chains of certificates which strangers pad as far as they may are
// kept of few hosts only, in idle connections and in sessions, and that those which are kept can be taken up.
func TestPaddedChainsTakeLittleMemory(t *testing.T) {
	const hosts, padding = 400, 56 << 10
	all, c := startHostile(t, hosts, testinbox.PaddedChain(padding), ClientOptions{AttemptTimeout: patience, ConnectTimeout: patience})
	before := heap()
	for i := range hosts {
		if got, _ := postTo(t.Context(), t, c, all.Inbox(i, "/inbox"), 300); got.Status != http.StatusAccepted {
			t.Fatalf("host %d: %+v", i, got)
		}
	}
	after := heap()
	known := c.trust.Load().sessions
	t.Logf("%d hosts with chains of %d KiB: %d idle connections with %d KiB, %d sessions with %d KiB, %d KiB of memory",
		hosts, padding>>10, c.idle.order.Len(), c.idle.chains>>10, len(known.byName), known.size>>10, (after-before)>>10)
	if n := c.idle.chains; n == 0 || n > 512*idleChain {
		t.Errorf("idle connections hold %d bytes of handshakes", n)
	}
	if n := known.size; n == 0 || n > maxSessions {
		t.Errorf("sessions hold %d bytes", n)
	}
	if most := int64(100 << 20); after-before > most {
		t.Errorf("%d KiB were taken, want at most %d", (after-before)>>10, most>>10)
	}
}

// heap returns how many bytes of the heap are in use.
func heap() int64 {
	var memory runtime.MemStats
	runtime.GC()
	runtime.GC() // what had a finalizer
	runtime.ReadMemStats(&memory)
	return int64(memory.HeapAlloc)
}
