package testinbox

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Fleet is many hosts in one process, each with its own address on loopback where the system has enough of them (Linux
// answers on all of 127.0.0.0/8), else with its own port.
type Fleet struct {
	scheme    string
	protocols map[string]func(*http.Server, *tls.Conn, http.Handler) // see http.Server.TLSNextProto
	addresses []string                                               // host:port of each
	servers   []*http.Server
	ca        []byte
	link      func(i int) Link // nil if all hosts are near
	serving   sync.WaitGroup

	handshakes, resumed atomic.Int64
}

// StartFleet starts n hosts. handler(i) serves the i-th.
func StartFleet(n int, handler func(i int) http.Handler) (*Fleet, error) {
	f := &Fleet{scheme: "http"}
	return f.start(n, handler, func(net.IP) (*tls.Config, error) { return nil, nil })
}

// StartTLSFleet is StartFleet with TLS and HTTP/2: each host has a certificate for its address, signed by the authority of
// CA.
func StartTLSFleet(n int, handler func(i int) http.Handler) (*Fleet, error) {
	return startTLSFleet(n, handler, nil, nil)
}

// StartFarFleet is StartTLSFleet with hosts that are far away: link(i) is the way to the i-th.
func StartFarFleet(n int, handler func(i int) http.Handler, link func(i int) Link) (*Fleet, error) {
	return startTLSFleet(n, handler, link, nil)
}

func startTLSFleet(
	n int, handler func(i int) http.Handler, link func(i int) Link, protocols map[string]func(*http.Server, *tls.Conn, http.Handler),
) (*Fleet, error) {
	ca, err := newAuthority()
	if err != nil {
		return nil, err
	}
	f := &Fleet{scheme: "https", protocols: protocols, ca: ca.pem, link: link}
	return f.start(n, handler, ca.config)
}

// start starts the hosts. If one can't be started it closes the others.
func (f *Fleet) start(n int, handler func(i int) http.Handler, config func(net.IP) (*tls.Config, error)) (*Fleet, error) {
	for i := range n {
		if err := f.startHost(i, handler(i), config); err != nil {
			return nil, errors.Join(fmt.Errorf("start host %d: %w", i, err), f.Close())
		}
	}
	return f, nil
}

func (f *Fleet) startHost(i int, handler http.Handler, config func(net.IP) (*tls.Config, error)) error {
	listener, err := listen(i)
	if err != nil {
		return err
	}
	address := listener.Addr().(*net.TCPAddr)
	secure, err := config(address.IP)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	server := &http.Server{
		Handler: handler, TLSConfig: secure, TLSNextProto: f.protocols, ReadHeaderTimeout: time.Minute,
		ErrorLog: log.New(io.Discard, "", 0), // tests break connections on purpose
	}
	if f.link != nil {
		link := f.link(i)
		listener = farListener{listener, link.RTT}
		server.IdleTimeout = link.Idle
	}
	if secure != nil {
		secure.VerifyConnection = f.count
	}
	f.addresses = append(f.addresses, address.String())
	f.servers = append(f.servers, server)
	f.serving.Go(func() {
		// Serve ends by Close, and always with an error.
		if secure == nil {
			_ = server.Serve(listener)
		} else {
			_ = server.ServeTLS(listener, "", "")
		}
	})
	return nil
}

// count counts a TLS handshake.
func (f *Fleet) count(state tls.ConnectionState) error {
	f.handshakes.Add(1)
	if state.DidResume {
		f.resumed.Add(1)
	}
	return nil
}

// Handshakes returns how many TLS handshakes there have been, and how many of them took up an earlier session.
func (f *Fleet) Handshakes() (all, resumed int64) { return f.handshakes.Load(), f.resumed.Load() }

// listen listens on the i-th address of loopback, from 127.1.0.0 on, or on 127.0.0.1 where there is no such address.
// The system chooses every port, so that fleets don't collide.
func listen(i int) (net.Listener, error) {
	var config net.ListenConfig
	own := net.IPv4(127, byte(1+i>>16), byte(i>>8), byte(i))
	l, err := config.Listen(context.Background(), "tcp4", net.JoinHostPort(own.String(), "0"))
	if err != nil {
		l, err = config.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	}
	return l, err
}

// Inbox returns the URL of a path, which begins with /, on host i.
func (f *Fleet) Inbox(i int, path string) string { return f.scheme + "://" + f.addresses[i] + path }

// Host returns host i as it stands in URLs and in Request.Host.
func (f *Fleet) Host(i int) string { return f.addresses[i] }

// CA returns the certificate that all hosts' certificates are signed with, in PEM; nil without TLS.
func (f *Fleet) CA() []byte { return f.ca }

// Close ends all hosts and their connections. The contexts of running handlers end.
func (f *Fleet) Close() error {
	var errs []error
	for _, server := range f.servers {
		errs = append(errs, server.Close())
	}
	f.serving.Wait()
	return errors.Join(errs...)
}
