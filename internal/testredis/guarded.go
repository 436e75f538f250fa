package testredis

import (
	"net"
	"path/filepath"
	"strconv"
	"testing"
)

// StartSocket starts a Redis that listens on a Unix socket, and returns the socket's path.
func StartSocket(t testing.TB, args ...string) (s *Server, path string) {
	t.Helper()
	s = newServer(t, nil, durable(args)...)
	path = filepath.Join(s.dir, "redis.sock")
	s.args = append(s.args, "--unixsocket", path)
	s.Run()
	return s, path
}

// StartTLS starts a Redis that accepts TLS connections, and only of clients with a certificate of the authority. It returns
// their address; Addr remains the one without TLS, for the test itself.
func StartTLS(t testing.TB, caFile, certFile, keyFile string) (s *Server, address string) {
	t.Helper()
	port := strconv.Itoa(freePort(t))
	s = Start(t, "--tls-port", port, "--tls-auth-clients", "yes",
		"--tls-ca-cert-file", caFile, "--tls-cert-file", certFile, "--tls-key-file", keyFile)
	return s, net.JoinHostPort("127.0.0.1", port)
}
