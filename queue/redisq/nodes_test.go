package redisq

import (
	"bytes"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
)

// member is a store that joined a fleet, and what it is called there.
type member struct {
	*Store
	name string
}

// newMember returns a store that joined a fleet of 64 partitions and, if it delivers, looks for work.
func newMember(t *testing.T, url, version string, delivers bool) member {
	t.Helper()
	m := member{Store: openStore(t, Options{URL: url, Prefix: "p", Partitions: 64})}
	m.name = m.Join(func() queue.NodeInfo {
		return queue.NodeInfo{Version: version, StartedAt: m.start, InFlight: 3, Concurrency: 8}
	})
	if delivers {
		lookFor(t, m.Store, 1, 0)
	}
	return m
}

// nodesOf returns the nodes that a store lists, by their names; none if it can't.
func nodesOf(t *testing.T, s *Store) map[string]queue.Node {
	t.Helper()
	f, err := s.Nodes(t.Context())
	if err != nil {
		return nil
	}
	byName := map[string]queue.Node{}
	for _, n := range f.Nodes {
		byName[n.Name] = n
	}
	return byName
}

// await waits until something is so.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for start := time.Now(); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("after a minute it is not so: %s", what)
		}
	}
}

// awaitFleet waits until each node lists these nodes and no others.
func awaitFleet(t *testing.T, all ...member) {
	t.Helper()
	await(t, "all nodes list each other", func() bool {
		for _, m := range all {
			list := nodesOf(t, m.Store)
			if len(list) != len(all) || slices.ContainsFunc(all, func(other member) bool { return list[other.name].Name == "" }) {
				return false
			}
		}
		return true
	})
}

// TestNodesListEachOther checks that all nodes of a fleet list the same, but for themselves, that the shares of those that
// deliver cover all partitions, and that nodes which close or die are listed no more.
func TestNodesListEachOther(t *testing.T) {
	t.Parallel()
	url := testredis.Start(t).URL()
	a, b := newMember(t, url, "1.2.3", true), newMember(t, url, "1.2.4", true)
	c := newMember(t, url, "1.2.3", false)
	all := []member{a, b, c}
	awaitFleet(t, all...)
	await(t, "the partitions are shared by the nodes that deliver", func() bool {
		list := nodesOf(t, c.Store)
		return list[a.name].Partitions+list[b.name].Partitions == 64 && list[b.name].Partitions > 0
	})
	for _, m := range all {
		for name, n := range nodesOf(t, m.Store) {
			of := all[slices.IndexFunc(all, func(m member) bool { return m.name == name })]
			version := "1.2.3"
			if name == b.name {
				version = "1.2.4"
			}
			want := queue.Node{
				Name: name, Self: of.Store == m.Store, Delivers: name != c.name, HasRoom: n.HasRoom, Partitions: n.Partitions, HeardAt: n.HeardAt,
				NodeInfo: queue.NodeInfo{Version: version, StartedAt: n.StartedAt, InFlight: 3, Concurrency: 8},
			}
			if diff := cmp.Diff(want, n); diff != "" || n.StartedAt.UnixMilli() != of.start.UnixMilli() || n.HasRoom && !n.Delivers {
				t.Errorf("%s lists %s started at %s, with (-want +got)\n%s", m.name, name, n.StartedAt, diff)
			}
		}
	}
	if n := nodesOf(t, a.Store)[c.name]; n.Partitions != 0 {
		t.Errorf("a node that does not deliver serves %d partitions", n.Partitions)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	awaitFleet(t, a, c)
	a.stop() // it dies: nobody hears that it is gone
	a.work.Wait()
	awaitFleet(t, c)
}

// TestNodesWhileRedisIsAway checks that a node that hears nothing does not say that it is alone.
func TestNodesWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	server := testredis.Start(t)
	a, b := newMember(t, server.URL(), "1.2.3", true), newMember(t, server.URL(), "1.2.3", false)
	awaitFleet(t, a, b)
	server.Kill()
	await(t, "Nodes fails", func() bool {
		_, err := a.Nodes(t.Context())
		return err != nil
	})
	server.Run()
	awaitFleet(t, a, b)
}

// eavesdropper hears what nodes tell each other, and tells them things itself.
type eavesdropper struct {
	t    *testing.T
	s    *Store
	mu   sync.Mutex
	said []string // guarded by mu
}

func eavesdrop(t *testing.T, url string) *eavesdropper {
	t.Helper()
	e := &eavesdropper{t: t, s: openStore(t, Options{URL: url, Prefix: "p", Partitions: 64, NoWakes: true})}
	sub := e.s.subscribe(func(_, message string) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.said = append(e.said, message)
	}, func(string) {})
	t.Cleanup(sub.release)
	if err := sub.add(t.Context(), e.s.keys.Channel()); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *eavesdropper) say(message string) { e.s.broadcast(e.t.Context(), message) }

// heard returns how many messages so far began like this.
func (e *eavesdropper) heard(prefix string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, message := range e.said {
		if strings.HasPrefix(message, prefix) {
			n++
		}
	}
	return n
}

// TestBeats checks that a beat is one message, that a node which does not look for work beats too, and that one that closes says
// so.
func TestBeats(t *testing.T) {
	t.Parallel()
	url := testredis.Start(t).URL()
	e := eavesdrop(t, url)
	a, b := newMember(t, url, "1.2.3", true), newMember(t, url, "1.2.3", false)
	awaitFleet(t, a, b)
	for _, m := range []member{a, b} {
		await(t, "a node beats thrice", func() bool { return e.heard("node {\"name\":\""+m.name+"\"") >= 3 })
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, "a node that closes says so", func() bool { return e.heard("gone "+b.name) == 1 })
}

// garbled are beats that no node can have sent.
func garbled() []string {
	long := strings.Repeat("x", 100)
	list := []string{
		"beat evil 1",
		"node", "node ", "node evil", "node null", "node []", "node {}", `node {"name":"evil"`, `node {"name":"evil"} {}`, `node {"name":7}`,
		`node {"name":"ev il"}`, `node {"name":"<script>"}`, `node {"name":"` + long + `"}`, `node {"name":""}`, `node {"name":"\u202eevil"}`,
		`node {"name":"evil","pad":"` + strings.Repeat("x", 2000) + `"}`, `node {"name":"evil","version":"` + long + `"}`,
		`node {"name":"evil","version":"1\n2"}`, `node {"name":"evil","version":"\u001b[31m"}`, `node {"name":"evil","version":"1.é"}`,
		`node {"name":"evil","started":-1}`, `node {"name":"evil","started":1e300}`, `node {"name":"evil","started":253402300800000}`,
	}
	for _, count := range []string{"in_flight", "concurrency", "partitions"} {
		for _, value := range []string{"-1", "1000001", "1.5", `"1"`, "99999999999999999999"} {
			list = append(list, fmt.Sprintf(`node {"name":"evil","looks":true,"room":true,"%s":%s}`, count, value))
		}
	}
	return list
}

func TestGarbledBeats(t *testing.T) {
	t.Parallel()
	for _, message := range garbled() {
		_, text, _ := strings.Cut(message, " ")
		if b, err := parseBeat(text, time.Now()); err == nil {
			t.Errorf("%q was taken for a beat: %+v", message, b)
		}
	}
	url := testredis.Start(t).URL()
	e := eavesdrop(t, url)
	var log bytes.Buffer
	s, err := Open(t.Context(), Options{URL: url, Prefix: "p", Partitions: 64, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	s.Join(func() queue.NodeInfo { return queue.NodeInfo{} })
	lookFor(t, s, 1, 0)
	for range 10 {
		for _, message := range garbled() {
			e.say(message)
		}
	}
	for _, message := range []string{"", " ", "gone", "gone evil", "later {}", "\x00", "staged x"} {
		e.say(message)
	}
	// Messages are heard in the order in which they were sent. What later versions add is ignored.
	e.say(`node {"name":"good","version":"2.0.0","looks":false,"more":{"than":"now"}}`)
	await(t, "the beat after them is heard", func() bool { return nodesOf(t, s)["good"].Version == "2.0.0" })
	if list := nodesOf(t, s); len(list) != 2 {
		t.Errorf("nodes %+v, want this one and the good one", list)
	}
	if n := nodesOf(t, s)[s.company.self]; n.Partitions != 64 {
		t.Errorf("the only node that delivers serves %d of 64 partitions", n.Partitions)
	}
	s.stop() // nothing writes to the log at the same time
	s.work.Wait()
	if n := strings.Count(log.String(), "store.beat_ignored"); n != 1 {
		t.Errorf("%d lines were logged of %d garbled beats:\n%s", n, 10*len(garbled()), log.String())
	}
}

// TestManyNodes checks that beats of made-up nodes take up little memory.
func TestManyNodes(t *testing.T) {
	c := newCompany(1)
	now := time.Now()
	for i := range 3 * maxNodes {
		if err := c.heard(looking(fmt.Sprint("evil-", i), now, true)); (err != nil) != (i >= maxNodes) {
			t.Fatalf("node %d: %v", i, err)
		}
	}
	if err := c.heard(looking("evil-0", now, true)); err != nil {
		t.Errorf("a node that is known: %v", err)
	}
	c.share(now.Add(2*queue.NodeSilence), true)
	if err := c.heard(looking("good", now, true)); err != nil || len(c.there(now)) != 1 {
		t.Errorf("once those are gone there are %d nodes, %v", len(c.there(now)), err)
	}
}
