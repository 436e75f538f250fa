package main

import (
	"crypto"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/postrider/postrider/internal/testinbox"
)

const firstPort = 8081

// host is one server of the fediverse, on a port of its own.
type host struct {
	inbox   *testinbox.Inbox // nil: the port is closed
	healthy bool             // it must get everything
}

// world is all the servers.
type world struct {
	name    string
	hosts   []host
	servers []*http.Server
	serving sync.WaitGroup

	mu       sync.Mutex
	accepted map[string]bool  // activities; guarded by mu
	got      []map[string]int // by host, the number of requests for each activity; guarded by mu
}

// startWorld starts six servers that are fine, and one each that is slow, fails for the first half of every minute, is
// gone, or dead.
func startWorld(name string, public crypto.PublicKey) (*world, error) {
	w := &world{name: name, accepted: map[string]bool{}}
	fine := func() testinbox.Reply { return testinbox.Reply{} }
	for range 6 {
		w.add(true, public, fine)
	}
	w.add(true, public, func() testinbox.Reply { return testinbox.Reply{Delay: 300 * time.Millisecond} })
	w.add(true, public, func() testinbox.Reply {
		if time.Now().Second() < 30 {
			return testinbox.Reply{Status: http.StatusInternalServerError, Body: "not now"}
		}
		return testinbox.Reply{}
	})
	w.add(false, public, func() testinbox.Reply { return testinbox.Reply{Status: http.StatusGone} })
	w.hosts = append(w.hosts, host{})
	return w, w.listen()
}

func (w *world) add(healthy bool, public crypto.PublicKey, reply func() testinbox.Reply) {
	i := len(w.hosts)
	w.got = append(w.got, map[string]int{})
	inbox := testinbox.New(testinbox.Options{
		Keep: 1,
		Keys: func(id string) crypto.PublicKey {
			if id != keyID {
				return nil
			}
			return public
		},
		Script: func(r testinbox.Request) testinbox.Reply {
			answer := reply()
			if answer.Status == 0 {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.got[i][r.ActivityID]++
			}
			return answer
		},
	})
	w.hosts = append(w.hosts, host{inbox, healthy})
}

// listen starts the servers on all addresses of this machine.
func (w *world) listen() error {
	for i, h := range w.hosts {
		if h.inbox == nil {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", firstPort+i))
		if err != nil {
			return errors.Join(err, w.close())
		}
		server := &http.Server{Handler: h.inbox, ReadHeaderTimeout: 10 * time.Second}
		w.servers = append(w.servers, server)
		w.serving.Go(func() { _ = server.Serve(l) }) // until close
	}
	return nil
}

func (w *world) close() (err error) {
	for _, server := range w.servers {
		err = errors.Join(err, server.Close())
	}
	w.serving.Wait()
	return err
}

func (w *world) inboxes() []string {
	urls := make([]string, len(w.hosts))
	for i := range w.hosts {
		urls[i] = fmt.Sprintf("http://%s:%d/inbox", w.name, firstPort+i)
	}
	return urls
}

// expect records that the node accepted an activity for all inboxes.
func (w *world) expect(activity string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.accepted[activity] = true
}

// tally counts the activities at the healthy inboxes.
type tally struct{ accepted, arrived, missing, repeated int }

func (w *world) tally() (t tally) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t.accepted = len(w.accepted)
	for i, h := range w.hosts {
		if !h.healthy {
			continue
		}
		for activity := range w.accepted {
			if w.got[i][activity] == 0 {
				t.missing++
			}
		}
		for _, times := range w.got[i] {
			t.arrived++
			t.repeated += times - 1
		}
	}
	return t
}

// String implements fmt.Stringer.
func (t tally) String() string {
	return fmt.Sprintf("%d activities accepted; at healthy inboxes %d arrived, %d are on their way, %d came again",
		t.accepted, t.arrived, t.missing, t.repeated)
}
