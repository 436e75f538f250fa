package embedded

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// crashDir names the store that a child process writes to until it is killed.
const crashDir = "POSTRIDER_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		writeUntilKilled(dir)
	}
	os.Exit(m.Run())
}

// writeUntilKilled enqueues and settles from many goroutines and says of each call that it was acknowledged: "+ID" for
// an activity of two deliveries, "-ID" once the first of these was delivered.
func writeUntilKilled(dir string) {
	s, err := Open(dir, Options{})
	if err != nil {
		panic(err)
	}
	limitWAL(s, 20) // so that kills come while the WAL is moved
	var out sync.Mutex
	say := func(line string) {
		out.Lock()
		defer out.Unlock()
		fmt.Println(line)
	}
	var workers sync.WaitGroup
	for w := range 16 {
		workers.Go(func() {
			for i := 0; ; i++ {
				host := fmt.Sprintf("h%d-%d-%d.example", os.Getpid(), w, i)
				id := submit(s, "https://app.example/"+host, host, "other.example")
				say("+" + id)
				deliverOne(s, host, uint64(i+1))
				say("-" + id)
				say("+" + submit(s, "https://app.example/"+host, "second."+host, "another.example")) // with the same body
			}
		})
	}
	workers.Wait()
}

// submit enqueues an activity to an inbox on each host and returns its ID.
func submit(s *Store, uri string, hosts ...string) string {
	sub := &queue.Submission{
		Activity: queue.Activity{
			ID: uuid.Must(uuid.NewV7()).String(), URI: uri, Type: "Create", KeyID: "k", OrderingKey: uri, Body: []byte(uri),
			Priority: queue.Normal,
		},
		TTL:         queue.IdempotencyTTL,
		Idempotency: queue.Idempotency{Key: sha256.Sum256([]byte(uri)), Fingerprint: sha256.Sum256([]byte(uri))},
	}
	for _, h := range hosts {
		sub.Recipients = append(sub.Recipients, queue.Recipient{Inbox: "https://" + h + "/inbox", Host: h})
	}
	receipt, err := s.Enqueue(bg, sub)
	if err != nil {
		panic(err)
	}
	return receipt.ID
}

// deliverOne takes one delivery of a host and settles it as delivered.
func deliverOne(s *Store, host string, token uint64) {
	lease := lockmgr.Lease{Host: host, Token: token, TTL: lockTTL}
	turns, err := s.Take(bg, []lockmgr.Lease{lease}, 1)
	if err != nil || len(turns) != 1 || len(turns[0].Deliveries) != 1 {
		panic(fmt.Sprint("took ", turns, err))
	}
	result := queue.Result{ID: turns[0].Deliveries[0].ID, Verdict: queue.Delivered}
	if _, err := s.Settle(bg, lease, queue.Settlement{Results: []queue.Result{result}, Release: true}, 0); err != nil {
		panic(err)
	}
}

// All calls acknowledged before a kill are there after it; every other call is there as a whole or not at all.
func TestAKillLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	accepted, delivered := map[string]bool{}, map[string]bool{}
	for range 3 {
		killed := exec.Command(os.Args[0])
		killed.Env = append(os.Environ(), crashDir+"="+dir)
		var stderr bytes.Buffer
		killed.Stderr = &stderr
		out, err := killed.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := killed.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			id, ok := strings.CutPrefix(lines.Text(), "+")
			if ok {
				accepted[id] = true
			} else {
				delivered[lines.Text()[1:]] = true
			}
			if n == 400 {
				if err := killed.Process.Kill(); err != nil { // SIGKILL; what is in the pipe is still read
					t.Fatal(err)
				}
			}
		}
		if err := killed.Wait(); err == nil || stderr.Len() > 0 {
			t.Fatalf("the writer ended by itself: %v: %s", err, &stderr)
		}
	}
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if len(accepted) < 300 {
		t.Fatalf("only %d activities were accepted", len(accepted))
	}
	for id := range accepted {
		a, err := s.Activity(bg, id)
		if err != nil {
			t.Fatalf("acknowledged, and lost: %v", err)
		}
		c := a.Counts
		if c.Total != 2 || c.Pending+c.Delivered != 2 || c.Delivered > 1 || delivered[id] && c.Delivered != 1 {
			t.Errorf("%s: %+v, delivered %t", id, c, delivered[id])
		}
	}
	bodyRows(t, s)
	stats, err := s.Stats(bg)
	if err != nil {
		t.Fatal(err)
	}
	if got := 2*stats.Activities - int(stats.Delivered); stats.Pending != got {
		t.Errorf("%d pending of %d activities of two, %d of them delivered", stats.Pending, stats.Activities, stats.Delivered)
	}
}
