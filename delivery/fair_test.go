package delivery

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/queue"
)

func always(host string) func(int) string { return func(int) string { return host } }

// delays submits an activity a second, twenty in all, each to the host that is given for its number, and returns how long
// they took to arrive, the shortest first.
func (r *rig) delays(host func(i int) string) []time.Duration {
	r.t.Helper()
	var took []time.Duration
	for i := range 20 {
		before := len(r.to(host(i)))
		uri := fmt.Sprintf("https://app.example/timed/%s/%d", host(i), i)
		accepted := time.Now()
		r.submit(uri, uri, queue.Normal, day, host(i))
		time.Sleep(time.Second)
		if arrived := r.to(host(i))[before:]; len(arrived) == 1 {
			took = append(took, arrived[0].at.Sub(accepted))
		}
	}
	if len(took) < 20 {
		r.t.Fatalf("%d of 20 arrived in a second at %s …", len(took), host(0))
	}
	slices.Sort(took)
	return took
}

// Three hundred hosts that accept everything after nine seconds keep their part of the slots busy, and a host that
// answers quickly does not notice.
func TestSlowHostsLeaveHalfOfTheSlots(t *testing.T) {
	pooled(t, func(req *http.Request) Answer {
		if strings.HasPrefix(req.URL.Host, "slow") {
			lasting(req, 9*time.Second)
		} else {
			lasting(req, 50*time.Millisecond)
		}
		return Answer{Status: 202}
	}, nil, func(r *rig) {
		r.backlog(1, "well.example")
		time.Sleep(time.Second)
		r.backlog(20, numbered("slow", 300)...)
		time.Sleep(2 * time.Minute) // their windows grow
		synctest.Wait()
		if used, suspects := r.pool.slots.inUse(); used != 32 || suspects != 32 {
			t.Errorf("%d of 64 slots are held by slow hosts, %d as suspects; want 32", used, suspects)
		}
		if took := r.delays(always("well.example")); took[10] > 100*time.Millisecond || took[19] > time.Second {
			t.Errorf("beside slow hosts a healthy one waits %s (median), %s at most", took[10], took[19])
		}
	})
}

// Hosts that take their time, but not seconds, are not slow: they get all slots.
func TestHostsThatTakeTheirTimeGetAllSlots(t *testing.T) {
	pooled(t, func(req *http.Request) Answer {
		lasting(req, time.Second)
		return Answer{Status: 202}
	}, nil, func(r *rig) {
		r.backlog(40, numbered("h", 64)...)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if used, suspects := r.pool.slots.inUse(); used != 64 || suspects != 0 {
			t.Errorf("%d of 64 slots are in use, %d by suspects; want all, and none", used, suspects)
		}
	})
}

// Ten thousand names of one domain, or of as many domains at one address, get one share, also of what is for hosts never
// reached: new hosts and healthy ones are served beside them.
func TestManyNamesOfOneOwnerGetOneShare(t *testing.T) {
	for _, c := range []struct {
		kind, name string
		address    func(i int) string
	}{
		{"one domain", "n%d.evil.com", func(i int) string { return fmt.Sprintf("198.51.%d.%d:443", i/256, i%256) }},
		{"one address", "evil%d.example", always("192.0.2.66:443")},
	} {
		t.Run(c.kind, func(t *testing.T) {
			pooled(t, func(req *http.Request) Answer {
				var i int
				if n, _ := fmt.Sscanf(req.URL.Host, c.name, &i); n == 0 {
					return Answer{Status: 202}
				}
				if err := enterAddress(req.Context(), c.address(i)); err != nil {
					return Answer{Err: err}
				}
				lasting(req, 25*time.Second)
				return Answer{Status: 202}
			}, nil, func(r *rig) {
				r.backlog(1, "well.example")
				time.Sleep(time.Second)
				names := make([]string, 2000)
				for i := range names {
					names[i] = fmt.Sprintf(c.name, i)
				}
				evil := r.submit("https://app.example/evil", "evil", queue.Normal, day, names...)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if used, suspects := r.pool.slots.inUse(); used != 8 || suspects != 8 {
					t.Errorf("%d of 64 slots are held by one owner, %d as suspects; want 8", used, suspects)
				}
				for kind, host := range map[string]func(int) string{
					"healthy": always("well.example"),
					"new":     func(i int) string { return fmt.Sprintf("new%d.example", i) },
				} {
					if took := r.delays(host); took[19] > 0 {
						t.Errorf("beside them a %s host waits %s at most", kind, took[19])
					}
				}
				if c := r.counts(evil); c.Delivered < 8 || c.Dead > 0 {
					t.Errorf("they themselves got %+v in a minute", c)
				}
			})
		})
	}
}

// An address that many hosts share is not crowded by those that are well, and one that is crowded keeps none of them.
func TestHealthyHostsShareAnAddress(t *testing.T) {
	var slow atomic.Bool
	pooled(t, func(req *http.Request) Answer {
		if err := enterAddress(req.Context(), "192.0.2.1:443"); err != nil {
			return Answer{Err: err}
		}
		if slow.Load() && strings.HasPrefix(req.URL.Host, "slow") {
			lasting(req, 9*time.Second)
		} else {
			lasting(req, time.Second)
		}
		return Answer{Status: 202}
	}, nil, func(r *rig) {
		for i := range 64 {
			r.backlog(40, fmt.Sprintf("h%d.example", i))
		}
		for i := range 32 {
			r.backlog(1, fmt.Sprintf("slow%d.example", i))
		}
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if used, suspects := r.pool.slots.inUse(); used < 56 || suspects != 0 { // some turns have just ended
			t.Errorf("%d of 64 slots are in use, %d by suspects; want nearly all, and none", used, suspects)
		}
		time.Sleep(time.Minute)
		slow.Store(true)
		for i := range 32 {
			r.backlog(10, fmt.Sprintf("slow%d.example", i))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if used, suspects := r.pool.slots.inUse(); used != 8 || suspects != 8 {
			t.Errorf("%d of 64 slots are held at an address that became slow, %d by suspects; want 8", used, suspects)
		}
		if took := r.delays(always("h1.example")); took[19] > 0 {
			t.Errorf("a healthy host at this address waits %s at most", took[19])
		}
	})
}

// Slow hosts with backlogs do not keep others at their address from their turns, be they one or many.
func TestSlowHostsLeaveTheirAddressToOthers(t *testing.T) {
	for _, n := range []int{1, 12} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			pooled(t, func(req *http.Request) Answer {
				if err := enterAddress(req.Context(), "192.0.2.1:443"); err != nil {
					return Answer{Err: err}
				}
				if strings.HasPrefix(req.URL.Host, "slow") {
					lasting(req, 9*time.Second)
				}
				return Answer{Status: 202}
			}, nil, func(r *rig) {
				for i := range n {
					r.backlog(240/n, fmt.Sprintf("slow%d.example", i))
				}
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				if used, suspects := r.pool.slots.inUse(); used < 4 || used > 8 || suspects != used {
					t.Errorf("%d of 64 slots are held, %d by suspects; want 8 or hardly less", used, suspects)
				}
				id := r.submit("https://app.example/new", "new", queue.Normal, day, "new1.example", "new2.example", "new3.example")
				time.Sleep(15 * time.Second)
				if c := r.counts(id); c.Delivered != 3 {
					t.Errorf("of three new hosts at the address got theirs: %+v", c)
				}
			})
		})
	}
}

// An attempt that finds its address crowded costs its delivery and its host nothing.
func TestACrowdedAddressCostsNothing(t *testing.T) {
	pooled(t, func(req *http.Request) Answer {
		if err := enterAddress(req.Context(), "192.0.2.1:443"); err != nil {
			return Answer{Err: err}
		}
		lasting(req, 20*time.Second)
		return Answer{Err: errors.New("hung up")}
	}, nil, func(r *rig) {
		hosts := make([]string, 9)
		for i := range hosts {
			hosts[i] = fmt.Sprintf("h%d.example", i)
		}
		r.halt()
		id := r.submit("https://app.example/1", "1", queue.Normal, day, hosts...)
		r.submit("https://app.example/2", "2", queue.Normal, day, hosts...)
		r.start()
		time.Sleep(time.Second)
		deliveries := func() []queue.DeliveryStatus {
			l, err := r.store.Deliveries(r.t.Context(), id, "", queue.Page{Limit: 10})
			if err != nil || len(l.Items) != len(hosts) {
				t.Fatalf("deliveries %+v, error %v", l, err)
			}
			return l.Items
		}
		if n := len(r.all()); n != len(hosts) {
			t.Errorf("%d attempts for %d hosts", n, len(hosts))
		}
		for i, d := range deliveries() {
			if d.State != queue.StatePending || d.Attempts != 0 || d.History.Last() != nil {
				t.Errorf("%+v", d)
			}
			r.unharmed(hosts[i], 2)
		}
		time.Sleep(45 * time.Second)
		for i, d := range deliveries() {
			if h := r.host(hosts[i]); d.History.Last() == nil || h.Record.LastError == nil {
				t.Errorf("%s was not tried: %+v, %+v", hosts[i], d, h)
			}
		}
	})
}
