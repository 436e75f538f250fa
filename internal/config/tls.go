package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// RootCAs returns the system's root certificates together with those of CAFile, or nil, which means the system's, if CAFile
// is not set.
func (c *Config) RootCAs() (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("system root certificates: %w", err)
	}
	return pool, appendCertificates(pool, c.CAFile)
}

// ServerCertificate returns the certificate that the node serves HTTPS with, or nil if it serves HTTP.
func (c *Config) ServerCertificate() (*tls.Certificate, error) {
	return keyPair(c.TLSCertFile, c.TLSKeyFile)
}

// RedisTLS returns the settings of TLS connections to Redis: they trust the certificates of RedisCAFile instead of the
// system's, and present that of RedisCertFile.
func (c *Config) RedisTLS() (*tls.Config, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.RedisCAFile != "" {
		settings.RootCAs = x509.NewCertPool()
		if err := appendCertificates(settings.RootCAs, c.RedisCAFile); err != nil {
			return nil, err
		}
	}
	pair, err := keyPair(c.RedisCertFile, c.RedisKeyFile)
	if err != nil || pair == nil {
		return settings, err
	}
	settings.Certificates = []tls.Certificate{*pair}
	return settings, nil
}

// keyPair reads a certificate and its key, or returns nil if there is none.
func keyPair(certFile, keyFile string) (*tls.Certificate, error) {
	if certFile == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", certFile, err)
	}
	return &pair, nil
}

// appendCertificates adds the certificates of a PEM file, which must have at least one.
func appendCertificates(pool *x509.CertPool, file string) error {
	pem, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("root certificates: %w", err)
	}
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("root certificates: %s: no certificate in it", file)
	}
	return nil
}

// checkFiles checks the files of certificates and keys, and that those for Redis are used.
func (c *Config) checkFiles() *UsageError {
	for _, pair := range []struct{ certSetting, cert, keySetting, key string }{
		{"tls-cert-file", c.TLSCertFile, "tls-key-file", c.TLSKeyFile},
		{"redis-cert-file", c.RedisCertFile, "redis-key-file", c.RedisKeyFile},
	} {
		if pair.cert == "" && pair.key != "" {
			return &UsageError{Setting: pair.certSetting, Accepted: "want the certificate of " + pair.keySetting + " with it"}
		}
		if pair.cert != "" && pair.key == "" {
			return &UsageError{Setting: pair.keySetting, Accepted: "want the private key of " + pair.certSetting + " with it"}
		}
		if _, err := keyPair(pair.cert, pair.key); err != nil {
			return &UsageError{Setting: pair.certSetting, Value: pair.cert,
				Accepted: "want a certificate in PEM and its private key in " + pair.keySetting + ": " + err.Error()}
		}
	}
	if c.Store.usesTLS() || c.To.Store.usesTLS() {
		return nil
	}
	for setting, file := range map[string]string{"redis-ca-file": c.RedisCAFile, "redis-cert-file": c.RedisCertFile} {
		if file != "" {
			return &UsageError{Setting: setting, Value: file, Accepted: "want a store that is reached by TLS with it: rediss:// or ?tls=true"}
		}
	}
	return nil
}
