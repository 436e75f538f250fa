package queuetest

import (
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/queue"
)

var nodeCases = []testCase{
	{name: "lists the node itself", run: listsItself},
	{name: "lists what the node says of itself now", run: listsWhatIsSaidNow},
	{name: "lists whether the node looks for work", run: listsLooking},
	{name: "gives each node a name of its own", run: namesNodes},
}

// self returns what the store lists, which must be this node only.
func (s *suite) self() (n queue.Node, partitions int) {
	s.t.Helper()
	f, err := s.Nodes(s.t.Context())
	if err != nil {
		s.t.Fatalf("Nodes: %v", err)
	}
	if len(f.Nodes) != 1 {
		s.t.Fatalf("Nodes gave %+v, want this node", f.Nodes)
	}
	return f.Nodes[0], f.Partitions
}

func listsItself(s *suite) {
	info := queue.NodeInfo{Version: "1.2.3+build (devel)", StartedAt: time.Now(), InFlight: 3, Concurrency: 512}
	name := s.Join(func() queue.NodeInfo { return info })
	if !queue.ValidNodeName(name) {
		s.t.Errorf("the node has the name %q", name)
	}
	for range 2 {
		before := time.Now()
		n, _ := s.self()
		if n.HeardAt.Before(before) || n.HeardAt.After(time.Now()) {
			s.t.Errorf("the node was heard at %s, want now", n.HeardAt)
		}
		s.same("node", queue.Node{Name: name, Self: true, NodeInfo: info, HeardAt: n.HeardAt}, n)
	}
}

func listsWhatIsSaidNow(s *suite) {
	var inFlight atomic.Int64
	s.Join(func() queue.NodeInfo { return queue.NodeInfo{InFlight: int(inFlight.Load()), Concurrency: 8} })
	for _, want := range []int{0, 5, 2} {
		inFlight.Store(int64(want))
		n, _ := s.self()
		s.same("in flight", want, n.InFlight)
	}
}

func listsLooking(s *suite) {
	has := func(what string, delivers, room bool) {
		s.t.Helper()
		n, _ := s.self()
		s.same(what, []bool{delivers, room}, []bool{n.Delivers, n.HasRoom})
	}
	has("a node that does not look for work", false, false)
	n, _ := s.self()
	s.same("partitions that it serves", 0, n.Partitions)
	s.due(1)
	has("a node that looks for work", true, true)
	n, all := s.self()
	if n.Partitions < 1 || n.Partitions != all {
		s.t.Errorf("the only node serves %d of %d partitions", n.Partitions, all)
	}
	s.want(queue.Want{Lanes: 1, Suspect: 1, Choosy: true})
	has("a node whose name servers are away", true, false)
	s.due(1)
	has("a node whose name servers are back", true, true)
}

func namesNodes(s *suite) {
	names := map[string]bool{}
	for _, q := range []queue.Queue{s.Queue, s.b.Open(s.t, Options{}), s.b.Open(s.t, Options{})} {
		names[q.Join(func() queue.NodeInfo { return queue.NodeInfo{} })] = true
	}
	s.same("names of three nodes", 3, len(names))
}
