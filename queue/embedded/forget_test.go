package embedded

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

// TestForgetWhileAccepting has a host forgotten just before and just after a delivery for it is accepted, while the writer
// has so much to do that both wait: the delivery is in a lane, also after a restart.
func TestForgetWhileAccepting(t *testing.T) {
	type call struct {
		name string
		make func(s *Store) error
	}
	accept := call{"accept", func(s *Store) error {
		id := uuid.Must(uuid.NewV7()).String()
		_, err := s.Enqueue(t.Context(), &queue.Submission{
			Activity:   queue.Activity{ID: id, URI: id, OrderingKey: id, Body: []byte(id)},
			Recipients: []queue.Recipient{{Inbox: "https://a.example/inbox", Host: "a.example"}}, TTL: time.Hour,
		})
		return err
	}}
	forget := call{"forget", func(s *Store) error { return s.forgetHosts(t.Context()) }}
	for _, calls := range [][]call{{accept, forget}, {forget, accept}} {
		t.Run(calls[0].name+" first", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				s, err := Open(dir, Options{})
				if err != nil {
					t.Fatal(err)
				}
				for _, action := range []queue.HostAction{queue.Pause, queue.Resume} {
					if _, err := s.Act(t.Context(), "a.example", action, queue.Order{}); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(queue.HostRetention)
				busy := make(chan struct{})
				go func() { _ = s.writer.do(t.Context(), func(*tx) error { <-busy; return nil }, nil) }()
				for _, c := range calls {
					synctest.Wait()
					go func() {
						if err := c.make(s); err != nil {
							t.Error(err)
						}
					}()
				}
				synctest.Wait()
				close(busy)
				synctest.Wait()
				for range 2 {
					if h, err := s.Host(t.Context(), "a.example"); err != nil || h.Pending != 1 {
						t.Errorf("%d deliveries pend, %v, want 1", h.Pending, err)
					}
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					if s, err = Open(dir, Options{}); err != nil {
						t.Fatal(err)
					}
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}
