package delivery

import (
	"container/list"
	"crypto/tls"
	"sync"
)

// maxSessions bounds the TLS sessions that are remembered for resumption, in bytes of handshakes and tickets: each holds
// the host's chain of certificates, and hosts are strangers.
const maxSessions = 8 << 20

// sessions remembers TLS sessions, those used last. It is safe for concurrent use.
type sessions struct {
	most int

	mu     sync.Mutex
	byName map[string]*list.Element // guarded by mu
	order  list.List                // of *session, the one used last first; guarded by mu
	size   int                      // of all; guarded by mu
}

type session struct {
	name  string
	state *tls.ClientSessionState
	chain int // bytes of the handshake in which the host showed its certificates
	size  int
}

func newSessions(most int) *sessions {
	return &sessions{most: most, byName: map[string]*list.Element{}}
}

// get returns the session of a name, or nil.
func (s *sessions) get(name string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.byName[name]
	if e == nil {
		return nil
	}
	s.order.MoveToFront(e)
	return e.Value.(*session)
}

// put remembers the session of a name, or forgets it if state is nil.
func (s *sessions) put(name string, state *tls.ClientSessionState, chain int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byName[name]; e != nil {
		s.remove(e)
	}
	if state == nil {
		return
	}
	ticket, _, err := state.ResumptionState()
	if err != nil {
		return
	}
	added := &session{name: name, state: state, chain: chain, size: chain + len(ticket)}
	s.byName[name] = s.order.PushFront(added)
	s.size += added.size
	for s.size > s.most {
		s.remove(s.order.Back())
	}
}

// remove forgets a session. The caller holds s.mu.
func (s *sessions) remove(e *list.Element) {
	old := s.order.Remove(e).(*session)
	delete(s.byName, old.name)
	s.size -= old.size
}

// connSessions is the sessions as one connection's handshake sees them. It implements tls.ClientSessionCache.
type connSessions struct {
	*sessions
	conn  *trackedConn
	chain int // of the session that is taken up
}

// Get implements tls.ClientSessionCache.
func (s *connSessions) Get(name string) (*tls.ClientSessionState, bool) {
	found := s.get(name)
	if found == nil {
		return nil, false
	}
	s.chain = found.chain
	return found.state, true
}

// Put implements tls.ClientSessionCache. A session that was taken up keeps the chain of the one before.
func (s *connSessions) Put(name string, state *tls.ClientSessionState) {
	s.put(name, state, max(s.chain, s.conn.chainSize()))
}
