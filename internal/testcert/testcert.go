// Package testcert makes certificates for tests: an authority for each test, and files of the certificates that it signs.
//
// All files are in a temporary folder of the test.
package testcert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority is a certificate authority.
type Authority struct {
	File string // its certificate, in PEM

	t           testing.TB
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// New makes an authority.
func New(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, certificate: template("authority"), key: newKey(t)}
	a.certificate.IsCA = true
	a.certificate.KeyUsage = x509.KeyUsageCertSign
	a.File = write(t, t.TempDir(), "ca.pem", "CERTIFICATE", a.sign(a.certificate, a.key))
	return a
}

// Pair is the files of a certificate and of its private key.
type Pair struct{ Cert, Key string }

// Issue makes a certificate with a name for a server on 127.0.0.1, or for a client.
func (a *Authority) Issue(name string) Pair {
	a.t.Helper()
	dir := a.t.TempDir()
	p := Pair{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	a.Renew(p, name)
	return p
}

// Renew puts another certificate into the files.
func (a *Authority) Renew(p Pair, name string) {
	a.t.Helper()
	key := newKey(a.t)
	c := template(name)
	c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	dir := filepath.Dir(p.Cert)
	write(a.t, dir, filepath.Base(p.Cert), "CERTIFICATE", a.sign(c, key))
	write(a.t, dir, filepath.Base(p.Key), "PRIVATE KEY", private)
}

func (a *Authority) sign(c *x509.Certificate, key *ecdsa.PrivateKey) (der []byte) {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, a.certificate, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// template is a certificate for a day. The library chooses its serial number.
func template(name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		Subject:   pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		BasicConstraintsValid: true,
	}
}

// write writes a PEM file and returns its path.
func write(t testing.TB, dir, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
