package simulation

import (
	"net/http"

	"github.com/postrider/postrider/delivery"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

type poster interface {
	Post(req *http.Request) delivery.Answer
}

// mutation breaks the engine in one way, by standing between its parts. Nil breaks nothing.
type mutation struct {
	lanes  func(*world, queue.Lanes) queue.Lanes         // between the pool and its store
	store  func(*world, queue.Queue) queue.Queue         // in the store
	leases func(*world, lockmgr.Manager) lockmgr.Manager // between the pool and the lease store
	client func(*world, poster) poster                   // between the pool and the hosts
	died   func(*world, *node)                           // when a node is killed
}

func (m *mutation) pool(w *world, q queue.Lanes) queue.Lanes {
	if m == nil || m.lanes == nil {
		return q
	}
	return m.lanes(w, q)
}

func (m *mutation) below(w *world, q queue.Queue) queue.Queue {
	if m == nil || m.store == nil {
		return q
	}
	return m.store(w, q)
}

func (m *mutation) locks(w *world, l lockmgr.Manager) lockmgr.Manager {
	if m == nil || m.leases == nil {
		return l
	}
	return m.leases(w, l)
}

func (m *mutation) poster(w *world, p poster) poster {
	if m == nil || m.client == nil {
		return p
	}
	return m.client(w, p)
}

func (m *mutation) death(w *world, n *node) {
	if m != nil && m.died != nil {
		m.died(w, n)
	}
}
