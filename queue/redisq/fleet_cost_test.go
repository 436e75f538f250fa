package redisq

import (
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/testredis"
)

// fleetCost is what a fleet has used so far.
type fleetCost struct {
	at         time.Time
	masters    []float64 // CPU of each, in s
	scripts    float64
	publishes  float64
	in, out    float64 // bytes that the masters read and wrote
	nodes      float64 // CPU of this process, in s
	deliveries float64 // that arrived first
	attempts   float64 // at dead hosts
	parts      []int   // deliveries in each partition
	makers     []int   // deliveries of each node
}

func costOf(t testing.TB, c *testredis.Cluster, l *ledger) fleetCost {
	t.Helper()
	cost := fleetCost{at: time.Now(), attempts: float64(l.deadAttempts.Load())}
	infos := make([]string, len(c.Nodes))
	var asked sync.WaitGroup
	for i, s := range c.Nodes {
		asked.Go(func() { infos[i], _ = s.Command("INFO", "everything") })
	}
	asked.Wait()
	for i, info := range infos {
		if info == "" {
			t.Fatalf("master %d says nothing of itself", i)
		}
		cost.masters = append(cost.masters, infoOf(info, "used_cpu_user:")+infoOf(info, "used_cpu_sys:"))
		cost.scripts += infoOf(info, "cmdstat_evalsha:calls=")
		cost.publishes += infoOf(info, "cmdstat_publish:calls=")
		cost.in += infoOf(info, "total_net_input_bytes:")
		cost.out += infoOf(info, "total_net_output_bytes:")
	}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	cost.nodes = time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
	cost.parts, cost.makers = l.delivered()
	cost.deliveries = float64(total(cost.parts))
	return cost
}

// infoOf returns a number from what INFO says, 0 if it says nothing of it.
func infoOf(info, name string) float64 {
	_, text, _ := strings.Cut(info, "\n"+name)
	end := strings.IndexFunc(text, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	n, err := strconv.ParseFloat(text[:max(0, end)], 64)
	if err != nil {
		return 0
	}
	return n
}

// since returns what was used since another time.
func (c fleetCost) since(before fleetCost) fleetCost {
	d := fleetCost{
		at: c.at, scripts: c.scripts - before.scripts, publishes: c.publishes - before.publishes, in: c.in - before.in,
		out: c.out - before.out, nodes: c.nodes - before.nodes, deliveries: c.deliveries - before.deliveries,
		attempts: c.attempts - before.attempts,
	}
	for i := range c.masters {
		d.masters = append(d.masters, c.masters[i]-before.masters[i])
	}
	for i := range c.parts {
		d.parts = append(d.parts, c.parts[i]-before.parts[i])
	}
	for i := range c.makers {
		d.makers = append(d.makers, c.makers[i]-before.makers[i])
	}
	return d
}

func total[T int | float64](values []T) (all T) {
	for _, v := range values {
		all += v
	}
	return all
}
