package redisq

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

const (
	forgetAtOnce = 500 // hosts that are looked at in one step, about
	forgetChunk  = 100 // of these in one script, which takes less than 10 ms even if all go
)

// knownHosts is where a node is on its way through the names of all hosts, again and again: a step for each sweep that finds
// something to forget, else one in queue.MaxIdle. So no host needs an entry anywhere for when it is to be forgotten.
type knownHosts struct {
	mu    sync.Mutex
	after string    // the last name looked at; guarded by mu
	next  time.Time // when to go on; guarded by mu
}

// forgetHosts looks at the next few hosts, and returns how many of them it forgot.
func (s *sweeper) forgetHosts(ctx context.Context) (forgotten int, err error) {
	k := &s.known
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Now().Before(k.next) {
		return 0, nil
	}
	names, last, more, err := s.hostNames(ctx, queue.HostFilter{}, k.after, forgetAtOnce)
	if err != nil {
		return 0, err
	}
	if k.after = ""; more {
		k.after = last
	}
	for p, all := range s.byPartition(names) {
		for some := range slices.Chunk(all, forgetChunk) {
			n, err := s.forgetSome(ctx, p, some)
			if err != nil {
				return forgotten, err
			}
			forgotten += n
		}
	}
	if forgotten == 0 {
		k.next = time.Now().Add(queue.MaxIdle)
	}
	return forgotten, nil
}

// forgetSome forgets those of some hosts of a partition that may be forgotten.
func (s *sweeper) forgetSome(ctx context.Context, p *partition, hosts []string) (int, error) {
	var forgotten, fed int
	args := append([]string{millis(queue.HostRetention)}, hosts...)
	err := p.run(ctx, script.ForgetHosts, p.lanes(nil, hosts), args, &forgotten, &fed)
	s.fed(fed)
	return forgotten, err
}
