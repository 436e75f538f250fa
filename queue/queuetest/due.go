package queuetest

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

var dueCases = []testCase{
	{name: "offers lanes with work", run: offersWork},
	{name: "offers no more than wanted", run: offersWanted},
	{name: "keeps an offered lane from others for a while", run: offersOnce},
	{name: "offers a released lane with more work at once", run: offersReleased},
	{name: "does not offer a lane that is worked on", run: offersNotLeased},
	{name: "offers the lane of a silent holder", run: offersSilent},
	{name: "bounds suspect lanes", run: boundsSuspects},
	{name: "bounds suspect lanes but not others", run: suspectsDoNotCrowd},
	{name: "mixes suspect lanes and others", run: mixesKinds},
	{name: "says when the next lane is due", run: saysNext},
	{name: "offers a lane when its wait is over", run: offersAfterWait},
	{name: "offers a lane that may be probed early", run: offersProbe},
	{name: "is fair to many hosts", run: fairToMany},
	{name: "draws lanes at random", run: drawsAtRandom},
	{name: "offers high priority first but never only", run: highFirst},
	{name: "shows since when the oldest lane has been due", run: showsOldestDue},
	{name: "wakes for new work", run: wakesForWork},
	{name: "wakes when a wait ends early", run: wakesForEndOfWait},
}

func offersWork(s *suite) {
	s.offers()
	s.put("https://app.example/a/1", "a.example", alsoTo("https://a.example/second", "b.example:8443"))
	s.offers("a.example", "b.example:8443")
	time.Sleep(passing)
	for _, host := range []string{"a.example", "b.example:8443"} {
		for range 2 { // deliveries of one activity to one host share its ordering key
			l := s.lease(host)
			var results []queue.Result
			for _, d := range s.turn(l, 10).Deliveries {
				results = append(results, delivered(d))
			}
			s.finish(l, results...)
		}
	}
	s.offers()
}

func offersWanted(s *suite) {
	names := hosts("a", 10)
	for _, host := range names {
		s.record(host, healthy())
	}
	s.enqueue(submission("https://app.example/a/1", names...))
	seen := map[string]bool{}
	for _, n := range []int{0, 3, 3, 3, 1} {
		got := s.due(n).Hosts
		if len(got) != n {
			s.t.Fatalf("%d lanes were offered to one who wanted %d", len(got), n)
		}
		for _, host := range got {
			seen[host] = true
		}
	}
	s.same("lanes offered in all", 10, len(seen))
}

func offersOnce(s *suite) {
	s.put("https://app.example/a/1", "a.example")
	s.offers("a.example")
	o := s.due(10)
	if len(o.Hosts) != 0 || o.Next == 0 || o.Next > queue.OfferTTL {
		s.t.Errorf("right after an offer Due gave %+v, want nothing until %s have passed", o, queue.OfferTTL)
	}
	time.Sleep(queue.OfferTTL + second/10)
	s.offers("a.example")
}

func offersReleased(s *suite) {
	s.fill("a.example", 3)
	for range 2 {
		s.offers("a.example")
		l := s.lease("a.example")
		s.finish(l, delivered(s.turn(l, 1).Deliveries[0]))
	}
	s.offers("a.example")
	s.settlement(s.takeNothing("a.example"), queue.Settlement{Release: true})
	s.offers("a.example")
}

// takeNothing starts a turn without taking anything.
func (s *suite) takeNothing(host string) lockmgr.Lease {
	s.t.Helper()
	l := s.lease(host)
	if got := s.turn(l, 0).Deliveries; len(got) != 0 {
		s.t.Fatalf("Take gave %d deliveries to one who wanted none", len(got))
	}
	return l
}

func offersNotLeased(s *suite) {
	s.fill("a.example", 3)
	s.offers("a.example")
	l := s.lease("a.example")
	d := s.turn(l, 1).Deliveries[0]
	time.Sleep(queue.OfferTTL + second/2)
	s.offers()
	s.settle(l, delivered(d))
	s.offers()
	s.finish(l)
	s.offers("a.example")
}

func offersSilent(s *suite) {
	uri := s.fill("a.example", 1)[0]
	s.offers("a.example")
	l := s.lease("a.example")
	l.TTL = second
	s.one(l, uri)
	time.Sleep(passing + second/2)
	s.offers("a.example")
	s.one(s.lease("a.example"), uri)
}

func boundsSuspects(s *suite) {
	s.record("well.example", healthy())
	s.record("fine.example", healthy())
	s.record("failing.example", failing(breaker.Closed))
	s.put("https://app.example/a/1", "well.example", alsoTo("failing.example", "new.example"))
	began := time.Now()
	s.same("lanes offered", []string{"well.example"}, s.want(queue.Want{Lanes: 10}).Hosts)
	s.put("https://app.example/b/1", "fine.example")
	o := s.want(queue.Want{Lanes: 10, Suspect: 1})
	if time.Since(began) >= queue.OfferTTL { // so the first offer may have lapsed
		o.Hosts = slices.DeleteFunc(o.Hosts, func(host string) bool { return host == "well.example" })
	}
	got := o.Suspects
	if len(got) != 1 || !slices.Contains(o.Hosts, got[0]) || !slices.Contains(o.Hosts, "fine.example") || len(o.Hosts) != 2 {
		s.t.Fatalf("the lanes %v, of which %v are suspect, were offered to a caller that wanted one suspect", o.Hosts, got)
	}
	got = append(got, s.want(queue.Want{Lanes: 10, Suspect: 5}).Suspects...)
	s.same("suspect lanes", []string{"failing.example", "new.example"}, slices.Compact(slices.Sorted(slices.Values(got))))
}

func suspectsDoNotCrowd(s *suite) {
	for _, host := range hosts("well", 6) {
		s.record(host, healthy())
	}
	s.put("https://app.example/a/1", "new.example", alsoTo(append(hosts("new", 40), hosts("well", 6)...)...))
	well := 0
	for _, host := range s.want(queue.Want{Lanes: 8, Suspect: 2}).Hosts {
		if strings.HasPrefix(host, "well") {
			well++
		}
	}
	s.same("lanes of hosts that are well", 6, well)
}

func mixesKinds(s *suite) {
	for _, host := range hosts("well", 40) {
		s.record(host, healthy())
	}
	s.put("https://app.example/a/1", "new.example", alsoTo(append(hosts("new", 39), hosts("well", 40)...)...))
	well := 0
	for _, host := range s.due(30).Hosts {
		if strings.HasPrefix(host, "well") {
			well++
		}
	}
	if well == 0 || well == 30 {
		s.t.Errorf("of 30 lanes offered %d are of hosts that are well, of as many as are not", well)
	}
}

func saysNext(s *suite) {
	if next := s.due(10).Next; next < queue.MaxIdle/2 {
		s.t.Errorf("an empty store says that the next lane is due in %s", next)
	}
	uri := s.fill("a.example", 1)[0]
	l := s.lease("a.example")
	s.finish(l, retry(s.one(l, uri), 2*second))
	o := s.dueNext()
	if len(o.Hosts) != 0 || o.Next < second || o.Next > 2*second {
		s.t.Errorf("with a retry in two seconds Due gave %+v", o)
	}
	time.Sleep(o.Next + second/10)
	s.offers("a.example")
}

// dueNext asks until Due no longer says that it is to be asked again at once: a wake for something past may still be on its way.
func (s *suite) dueNext() queue.Offer {
	s.t.Helper()
	o := s.due(10)
	for n := 0; n < 20 && len(o.Hosts) == 0 && o.Next == 0; n++ {
		time.Sleep(second / 200)
		o = s.due(10)
	}
	return o
}

func offersAfterWait(s *suite) {
	s.fill("a.example", 2)
	l := s.takeNothing("a.example")
	s.settlement(l, queue.Settlement{Wait: second, Release: true})
	o := s.dueNext()
	if len(o.Hosts) != 0 || o.Next == 0 || o.Next > second {
		s.t.Errorf("with a lane that waits for a second Due gave %+v", o)
	}
	time.Sleep(passing)
	s.offers("a.example")
}

func offersProbe(s *suite) {
	uri := s.fill("a.example", 1)[0]
	l, record := s.lease("a.example"), failing(breaker.Open)
	d := s.one(l, uri)
	s.settlement(l, queue.Settlement{
		Results: []queue.Result{hostFailed(d, time.Hour)}, Host: &record, Wait: second, Release: true,
	})
	s.offers()
	time.Sleep(passing)
	s.offers("a.example")
	d = s.one(s.lease("a.example"), uri)
	s.same("early", true, d.Early)
}

func fairToMany(s *suite) {
	s.put("https://app.example/a/1", "one.example", alsoTo(hosts("one", 99)...))
	s.fill("many.example", 100)
	s.offeredOnce(101, 1, 10)
}

func drawsAtRandom(s *suite) {
	var draws [2][]string
	for i := range draws {
		s.Queue = s.b.Open(s.t, Options{})
		s.enqueue(submission("https://app.example/a/1", hosts("a", 200)...))
		draws[i] = s.due(20).Hosts
	}
	if slices.Equal(draws[0], draws[1]) {
		s.t.Fatalf("twice the same 20 lanes of 200 were drawn: %v", draws[0])
	}
}

func highFirst(s *suite) {
	const each = 300
	for p, prefix := range []string{"high", "normal", "low"} {
		sub := submission("https://app.example/"+prefix, hosts(prefix, each)...)
		sub.Priority = queue.Priority(p)
		s.enqueue(sub)
	}
	offered := map[string]int{}
	for _, host := range s.due(each).Hosts {
		offered[host[:strings.IndexAny(host, "0123456789")]]++
	}
	got := slices.Collect(maps.Values(offered))
	if len(got) != queue.Priorities {
		s.t.Errorf("of the lanes offered first %v have work of each priority, want some of each", offered)
	}
	if offered["high"] <= offered["normal"] || offered["normal"] <= offered["low"] {
		s.t.Errorf("of the lanes offered first %v have work of each priority, want more the higher it is", offered)
	}
}

func wakesForWork(s *suite) {
	s.dueNext()
	s.drain()
	uri := s.fill("a.example", 1)[0]
	s.woken("Enqueue")
	l := s.lease("a.example")
	d := s.one(l, uri)
	s.drain()
	s.finish(l, retry(d, second))
	s.woken("a retry sooner than Due's answer")
}

func wakesForEndOfWait(s *suite) {
	s.fill("a.example", 1)
	l := s.takeNothing("a.example")
	s.settlement(l, queue.Settlement{Wait: time.Hour, Release: true})
	s.dueNext()
	l = s.takeNothing("a.example")
	s.drain()
	s.settlement(l, queue.Settlement{Wait: -1, Release: true})
	s.woken("the end of a wait")
	s.offers("a.example")
}

func showsOldestDue(s *suite) {
	oldest := func(what string, want time.Time) (at time.Time) {
		s.t.Helper()
		at = s.stats().OldestDueAt
		if at.IsZero() != want.IsZero() {
			s.t.Fatalf("%s: the oldest lane has been due since %s, want %s", what, at, want)
		}
		if !want.IsZero() {
			s.near(what+": when the oldest lane became due", want, at)
		}
		return at
	}
	none := time.Time{}
	oldest("an empty store", none)
	s.put("https://app.example/a/1", "new.example")
	oldest("a host that was never reached", none)
	for _, host := range []string{"a.example", "b.example"} {
		s.record(host, healthy())
	}
	oldest("nothing pending", none)
	s.put("https://app.example/a/2", "a.example")
	first := oldest("a lane is due", time.Now())
	time.Sleep(second)
	s.put("https://app.example/a/3", "b.example")
	s.put("https://app.example/a/4", "a.example", priority(queue.High))
	s.cancel(s.put("https://app.example/a/5", "a.example"))
	s.same("when the first lane became due", first, oldest("two lanes are due", first.Add(-s.b.Ahead)))

	a := s.lease("a.example")
	s.take(a, "https://app.example/a/2", "https://app.example/a/4")
	if second := oldest("the first lane is taken", time.Now()); !second.After(first) {
		s.t.Errorf("the second lane became due at %s, and the first at %s", second, first)
	}
	b := s.lease("b.example")
	s.finish(b, retry(s.one(b, "https://app.example/a/3"), second))
	oldest("both lanes wait", none)
	due := time.Now().Add(second)
	time.Sleep(3 * second)
	oldest("a lane became due", due)
	s.finish(a)
	s.offers("a.example", "b.example", "new.example")
	oldest("all are offered", none)
}
