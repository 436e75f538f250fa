package bench

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

const (
	pausedFor = 12 * time.Hour
	claimed   = 32 // lanes claimed at once
	perLane   = 16 // deliveries taken of each
	claims    = 40 // rounds of a measurement of claims

	laneTimeout = 30 * time.Second // until stored deliveries are in their lanes
	lanePause   = 10 * time.Millisecond
)

// filler is the role that works on a store without a node: it fills the store, makes hosts wait, and measures claims.
type filler struct {
	o      *Options
	store  queue.Queue
	leases lockmgr.Manager
}

func (f *filler) commands() commands {
	return commands{
		"start": command(f.start), "fill": command(f.fill), "pause": command(f.pause), "claim": command(f.claim),
	}
}

func (f *filler) start(ctx context.Context, at location) (_ any, err error) {
	f.store, f.leases, err = f.o.OpenStore(ctx, f.o.settings(at), f.o.Log)
	return nil, err
}

func (f *filler) stop() error {
	if f.store == nil {
		return nil
	}
	return f.store.Close()
}

// waitingHost returns the i-th host to which nothing is ever sent.
func waitingHost(i int) string { return fmt.Sprintf("127.200.%d.%d:9", i/250, i%250+1) }

// filling says what to store: a number of activities to one inbox on each host from First on, but before Last.
type filling struct {
	First, Last, Activities int
	Body                    []byte
}

func (f *filler) fill(ctx context.Context, r filling) (any, error) {
	recipients := make([]queue.Recipient, 0, r.Last-r.First)
	for i := r.First; i < r.Last; i++ {
		host := waitingHost(i)
		recipients = append(recipients, queue.Recipient{Inbox: "http://" + host + plainPath, Host: host})
	}
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(4)
	for range r.Activities {
		all.Go(func() error { return f.enqueue(ctx, r.Body, recipients) })
	}
	return nil, all.Wait()
}

// enqueue stores one activity.
func (f *filler) enqueue(ctx context.Context, body []byte, recipients []queue.Recipient) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	uri := "https://bench.example/fillings/" + id.String()
	s := &queue.Submission{Recipients: recipients, TTL: 72 * time.Hour, Activity: queue.Activity{
		ID: id.String(), URI: uri, Type: "Create", KeyID: keyID, OrderingKey: uri, Priority: queue.Normal, Body: body,
		Digest: sha256.Sum256(body),
	}}
	s.Idempotency.Key = sha256.Sum256([]byte(uri))
	_, err = f.store.Enqueue(ctx, s)
	return err
}

// pause makes the first n hosts wait, so that their deliveries stay pending.
func (f *filler) pause(ctx context.Context, n int) (any, error) {
	for first := 0; first < n; first += 256 {
		var hosts []string
		for i := first; i < min(n, first+256); i++ {
			hosts = append(hosts, waitingHost(i))
		}
		leases, err := f.leases.Acquire(ctx, hosts)
		if err != nil {
			return nil, err
		}
		if err := f.takeEach(ctx, leases); err != nil {
			return nil, err
		}
		err = f.settleAll(ctx, leases, queue.Settlement{Wait: pausedFor, Release: true})
		if err := errors.Join(err, f.leases.Release(ctx, leases)); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// takeEach takes a delivery of each lane, since a lease counts only after a Take. It repeats the call, as deliveries reach
// their lanes some time after they were stored.
func (f *filler) takeEach(ctx context.Context, leases []lockmgr.Lease) error {
	for began := time.Now(); ; {
		turns, err := f.store.Take(ctx, leases, 1)
		if err != nil || len(turns) == len(leases) {
			return err
		}
		if time.Since(began) > laneTimeout {
			return errors.New("another node works on the hosts, or nothing is pending for them")
		}
		time.Sleep(lanePause)
	}
}

// settleAll settles leases concurrently, as the turns of a node would.
func (f *filler) settleAll(ctx context.Context, leases []lockmgr.Lease, s queue.Settlement) error {
	var all errgroup.Group
	for _, l := range leases {
		all.Go(func() error {
			_, err := f.store.Settle(ctx, l, s, 0)
			return err
		})
	}
	return all.Wait()
}

// claim returns the time to find, lease and take one delivery, in microseconds: the median of some rounds, each of many
// deliveries.
func (f *filler) claim(ctx context.Context, _ struct{}) (any, error) {
	rounds := make([]float64, claims)
	for i := range rounds {
		began := time.Now()
		offer, err := f.store.Due(ctx, queue.Want{Lanes: claimed, Suspect: claimed})
		if err != nil {
			return nil, err
		}
		leases, err := f.leases.Acquire(ctx, offer.Hosts)
		if err != nil {
			return nil, err
		}
		turns, err := f.store.Take(ctx, leases, perLane)
		if err != nil {
			return nil, err
		}
		took := time.Since(began)
		n := 0
		for _, t := range turns {
			n += len(t.Deliveries)
		}
		if n == 0 {
			return nil, errors.New("nothing is due")
		}
		rounds[i] = float64(took.Microseconds()) / float64(n)
		if err := errors.Join(f.settleAll(ctx, leases, queue.Settlement{Release: true}), f.leases.Release(ctx, leases)); err != nil {
			return nil, err
		}
	}
	return median(rounds), nil
}
