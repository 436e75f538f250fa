package delivery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"
)

// Hosts that need another way are remembered by the node that found out: so many of each kind, for so long.
const (
	oddHosts = 4096
	oddLasts = 24 * time.Hour
)

// classicGroups are key exchanges whose client hello fits into one packet. Go's default offer includes hybrids
// with ML-KEM, which take some 1,500 bytes, and there are middleboxes that drop a client hello in two packets.
var classicGroups = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}

// trust is the authorities whose certificates the client takes, and the TLS sessions made under them.
type trust struct {
	roots    *x509.CertPool // nil is the system's
	sessions *sessions
}

func newTrust(roots *x509.CertPool) *trust {
	return &trust{roots: roots, sessions: newSessions(maxSessions)}
}

// checkChain refuses a chain of certificates that is only large to fill our memory: connections and sessions keep it.
// The budget of the connection ends a handshake that brings far more than that before anything of it is verified.
func checkChain(state tls.ConnectionState) error {
	size := 0
	for _, cert := range state.PeerCertificates {
		size += len(cert.Raw)
	}
	if size > maxChain {
		return fmt.Errorf("the chain of certificates has %d bytes, more than %d", size, maxChain)
	}
	return nil
}

// handshake makes a TLS connection of one that is open, or closes that. A host that sent not one byte is offered
// only classic key exchange for some time.
func (d *dialer) handshake(ctx context.Context, raw *trackedConn, addr, name string) (net.Conn, error) {
	trust := d.trust.Load()
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: trust.roots, ServerName: name, NextProtos: d.protocols,
		VerifyConnection:   checkChain,
		ClientSessionCache: &connSessions{sessions: trust.sessions, conn: raw},
	}
	if d.classic.has(addr) {
		config.CurvePreferences = classicGroups
	}
	conn := tls.Client(raw, config)
	done := step(ctx, "tls", "server_name", name)
	err := conn.HandshakeContext(ctx)
	done(err)
	if err == nil {
		raw.chain.Store(raw.read.Load())
		return conn, nil
	}
	_ = raw.Close()
	if aborted := errors.Is(ctx.Err(), context.Canceled) && !expired(ctx); raw.read.Load() == 0 && !aborted {
		d.classic.add(addr)
	}
	return nil, fmt.Errorf("TLS handshake with %s: %w", addr, err)
}
