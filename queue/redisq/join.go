package redisq

import "github.com/postrider/postrider/queue"

// Join implements queue.Fleet.
func (s *channels) Join(info func() queue.NodeInfo) (name string) {
	s.info.Store(&info)
	s.begin()
	return s.company.self
}
