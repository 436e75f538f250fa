package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/postrider/postrider/internal/netguard"
)

const (
	maxAddrs  = 8                      // of a host that are dialled in one attempt
	headStart = 250 * time.Millisecond // of an address over the next one
)

// connect looks the host up and connects to one of its addresses. It returns the connection and the time until which
// the rest of the connect time-out lasts, which begins when the addresses are known. It dials at most maxAddrs, however
// many the look-up yields and whenever. The error wraps netguard.ErrPrivate only if no address is allowed.
func (d *dialer) connect(ctx context.Context, network, addr string) (net.Conn, time.Time, error) {
	host, port, err := splitHostPort(addr)
	if err != nil {
		return nil, time.Time{}, err
	}
	var failed error
	left := maxAddrs
	for addrs, err := range d.lookup(ctx, host) {
		until := time.Now().Add(d.timeout)
		if err == nil {
			addrs, err = d.allowed(addrs, left)
		}
		left -= len(addrs)
		var conn net.Conn
		if err == nil {
			conn, err = d.race(ctx, until, network, addrs, port)
		}
		if err == nil {
			return newTrackedConn(conn, d.idle), until, nil
		}
		if errors.Is(err, errCrowded) {
			return nil, time.Time{}, err
		}
		if failed == nil || errors.Is(failed, netguard.ErrPrivate) {
			failed = err
		}
		if left == 0 {
			break
		}
	}
	return nil, time.Time{}, failed
}

func splitHostPort(addr string) (string, uint16, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return host, uint16(n), err
}

// lookup yields the addresses of a host as they become known. The attempt's time stands still while it waits for them.
func (d *dialer) lookup(ctx context.Context, host string) iter.Seq2[[]netip.Addr, error] {
	return func(yield func([]netip.Addr, error) bool) {
		if addr, err := netip.ParseAddr(host); err == nil {
			yield([]netip.Addr{addr}, nil)
			return
		}
		attempt := clockOf(ctx)
		attempt.stop()
		defer attempt.start()
		done := step(ctx, "dns", "name", host)
		for addrs, err := range d.resolver.Lookup(ctx, host) {
			attempt.start()
			done(err)
			if !yield(addrs, err) {
				return
			}
			attempt.stop()
		}
	}
}

// allowed returns the first addresses that the policy allows, at most n, or the error why there are none.
func (d *dialer) allowed(addrs []netip.Addr, n int) ([]netip.Addr, error) {
	var allowed []netip.Addr
	var refusal error
	for _, addr := range addrs {
		if err := d.policy.Check(addr); err == nil {
			allowed = append(allowed, addr)
		} else if refusal == nil {
			refusal = err
		}
	}
	if len(allowed) == 0 {
		return nil, refusal
	}
	return allowed[:min(len(allowed), n)], nil
}

// dialled is what came of one address.
type dialled struct {
	conn net.Conn
	err  error
}

// race connects to the first address that answers. The next one is tried when the one before has failed or had its head
// start. If all fail, race returns the first error. It returns errCrowded as soon as it comes to an address that is.
// SPEC: RFC 8305, section 5: "A simple implementation can have a fixed delay for how long to wait before starting the
// next connection attempt", of 250 milliseconds.
func (d *dialer) race(ctx context.Context, until time.Time, network string, addrs []netip.Addr, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithDeadline(ctx, until)
	results := make(chan dialled)
	running := 0
	defer func() { // those that lost
		cancel()
		for range running {
			if r := <-results; r.err == nil {
				_ = r.conn.Close()
			}
		}
	}()
	var failed error
	next := time.NewTimer(0)
	defer next.Stop()
	for len(addrs) > 0 || running > 0 {
		select {
		case <-next.C:
			if len(addrs) > 0 {
				target := netip.AddrPortFrom(addrs[0], port)
				if err := enterAddress(ctx, target.String()); err != nil {
					return nil, err
				}
				go func() { results <- d.dialOne(ctx, network, target) }()
				addrs = addrs[1:]
				running++
				next.Reset(headStart)
			}
		case r := <-results:
			running--
			if r.err == nil {
				return r.conn, nil
			}
			failed = cmp.Or(failed, r.err)
			next.Reset(0)
		}
	}
	return nil, failed
}

// dialOne connects to one address. The address is checked once more when it is dialled, so that nothing that goes
// before can let a private one through.
func (d *dialer) dialOne(ctx context.Context, network string, target netip.AddrPort) dialled {
	nd := net.Dialer{ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		return d.check(address)
	}}
	done := step(ctx, "connect", "address", target.String())
	conn, err := nd.DialContext(ctx, network, target.String())
	done(err)
	return dialled{conn, err}
}

// check checks an address about to be dialled.
func (d *dialer) check(address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", netguard.ErrPrivate, err)
	}
	return d.policy.Check(ap.Addr())
}
