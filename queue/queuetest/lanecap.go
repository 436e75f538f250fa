package queuetest

import (
	"time"

	"github.com/postrider/postrider/queue"
)

var capCases = []testCase{
	{name: "drops the oldest of the lowest priority", run: capsLane, opts: limits(queue.Limits{Lane: 3})},
	{name: "never drops high priority", run: capsNotHigh, opts: limits(queue.Limits{Lane: 3})},
	{name: "leaves what is taken", run: capsNotTaken, opts: limits(queue.Limits{Lane: 2})},
	{name: "moves on behind what was dropped", run: capsHead, opts: limits(queue.Limits{Lane: 2})},
	{name: "leaves other lanes", run: capsEach, opts: limits(queue.Limits{Lane: 3})},
	{name: "drops many", run: capsMany, opts: limits(queue.Limits{Lane: 10})},
	{name: "keeps no more than so many dead letters", run: capsLetters, opts: limits(queue.Limits{DeadLetters: 3})},
	{name: "keeps bodies of dead letters", run: capsBodies, opts: limits(queue.Limits{DeadLetters: 1})},
}

func capsLane(s *suite) {
	s.put("low 1", "a.example", priority(queue.Low))
	s.put("normal 1", "a.example")
	s.put("high", "a.example", priority(queue.High))
	s.sweep()
	s.buried(queue.ReasonLaneFull)
	normal := s.put("normal 2", "a.example")
	s.put("low 2", "a.example", priority(queue.Low))
	s.put("normal 3", "a.example")
	s.sweep()
	s.buried(queue.ReasonLaneFull, "low 1", "low 2", "normal 1")
	s.counts(normal, queue.Counts{Pending: 1})
	s.take(s.lease("a.example"), "high", "normal 2", "normal 3")
}

func capsNotHigh(s *suite) {
	names := s.fill("a.example", 5, priority(queue.High))
	s.put("normal", "a.example")
	s.sweep()
	s.buried(queue.ReasonLaneFull, "normal")
	s.take(s.lease("a.example"), names...)
}

func capsNotTaken(s *suite) {
	names := s.fill("a.example", 2)
	l := s.lease("a.example")
	s.take(l, names...)
	more := s.fill("a.example", 1)
	s.sweep()
	s.buried(queue.ReasonLaneFull, more...)
	s.put("high", "a.example", priority(queue.High))
	s.sweep()
	s.same("pending while they are taken", 3, s.host("a.example").Pending)
	s.finish(l)
	s.sweep()
	s.buried(queue.ReasonLaneFull, names[0], more[0])
}

func capsHead(s *suite) {
	s.chain("a.example")
	l := s.lease("a.example")
	s.finish(l, retry(s.one(l, "1"), time.Hour))
	s.offers()
	s.sweep()
	s.buried(queue.ReasonLaneFull, "1")
	s.offers("a.example")
	s.one(s.lease("a.example"), "2")
}

func capsEach(s *suite) {
	s.put("1", "a.example", alsoTo("b.example", "c.example", "d.example"))
	names := s.fill("a.example", 2)
	s.sweep()
	s.take(s.lease("a.example"), append(names, "1")...)
	s.buried(queue.ReasonLaneFull)
}

func capsMany(s *suite) {
	s.fill("a.example", 60)
	s.act("a.example", queue.Pause) // it holds for these too
	s.sweep()
	st := s.stats()
	s.same("pending and dead", []int{10, 50}, []int{st.Pending, st.Dead})
	s.same("died", map[queue.Reason]int64{queue.ReasonLaneFull: 50}, st.Died)
}

func capsLetters(s *suite) {
	s.sweep() // there is nothing to do for a while
	ids := map[string]string{}
	for _, uri := range []string{"1", "2", "3", "4", "5"} {
		ids[uri] = s.bury(uri, "a.example", queue.ReasonGone)
		time.Sleep(second / 100)
	}
	s.sweep()
	s.same("dead letters", []string{"5", "4", "3"}, letterURIs(s.letters(queue.DeadLetterFilter{})))
	st := s.stats()
	s.same("dead", 3, st.Dead)
	s.same("dropped", int64(2), st.Dropped)
	s.same("died", map[queue.Reason]int64{queue.ReasonGone: 5}, st.Died)
	s.counts(ids["1"], queue.Counts{Dead: 1})
	s.same("dead deliveries listed", 0, len(s.listed(ids["1"], "")))
	s.reopen()
	s.sweep()
	s.same("dropped after a restart", int64(2), s.stats().Dropped)
	s.same("died after a restart", st.Died, s.stats().Died)
}

func capsBodies(s *suite) {
	s.bury("1", "a.example", queue.ReasonGone)
	time.Sleep(second / 100)
	s.bury("2", "a.example", queue.ReasonGone)
	s.sweep()
	s.same("dead letters", queue.DeadLetterCount{Matched: 1, Done: 1}, s.retryDead(queue.DeadLetterChoice{}))
	d := s.one(s.lease("a.example"), "2")
	if len(d.Activity.Body) == 0 {
		s.t.Error("the body is gone")
	}
}
