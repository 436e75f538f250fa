package app

import (
	"crypto/tls"
	"crypto/x509"
	"sync"
	"sync/atomic"

	"github.com/postrider/postrider/delivery"
	"github.com/postrider/postrider/handlers"
	"github.com/postrider/postrider/internal/config"
)

// files holds the contents of the files that a node reads again at SIGHUP. It is safe for concurrent use.
type files struct {
	certificate atomic.Pointer[tls.Certificate] // nil: the node serves HTTP
	redis       atomic.Pointer[tls.Config]

	mu     sync.Mutex
	tokens []handlers.Token // guarded by mu
	roots  *x509.CertPool   // guarded by mu
	api    *handlers.API    // nil until there is a node; guarded by mu
	client *delivery.Client // nil until there is a node; guarded by mu
}

// load reads the files of the settings, all or none.
func (f *files) load(cfg *config.Config) error {
	certificate, err := cfg.ServerCertificate()
	if err != nil {
		return err
	}
	redis, err := cfg.RedisTLS()
	if err != nil {
		return err
	}
	roots, err := cfg.RootCAs()
	if err != nil {
		return err
	}
	f.certificate.Store(certificate)
	f.redis.Store(redis)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tokens = tokens(cfg)
	f.roots = roots
	f.apply()
	return nil
}

// attach makes a node use the files, now and whenever they are read again.
func (f *files) attach(n *node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.api = n.api
	f.client = n.client
	f.apply()
}

// apply gives the files to the node. f.mu is held.
func (f *files) apply() {
	if f.api == nil {
		return
	}
	f.api.SetTokens(f.tokens)
	f.client.SetRootCAs(f.roots)
}

func (f *files) currentTokens() []handlers.Token {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tokens
}

func (f *files) currentCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.certificate.Load(), nil
}

// rereadFiles reads the files again at each SIGHUP, until stop is called. After an error in any of them, the node goes on
// with all as they were.
func (s *service) rereadFiles() (stop func()) {
	var done sync.WaitGroup
	ended := make(chan struct{})
	done.Go(func() {
		for {
			select {
			case <-ended:
				return
			case <-s.hangups:
				s.rereadOnce()
			}
		}
	})
	return func() {
		close(ended)
		done.Wait()
	}
}

func (s *service) rereadOnce() {
	cfg, err := s.reread()
	if err == nil {
		err = s.files.load(cfg)
	}
	if err != nil {
		s.log.Error("config.not_reread", "error", err)
		return
	}
	s.log.Info("config.reread", "api_tokens", len(cfg.APITokens))
}

func tokens(cfg *config.Config) []handlers.Token {
	ts := make([]handlers.Token, len(cfg.APITokens))
	for i, t := range cfg.APITokens {
		ts[i] = handlers.Token{Name: t.Name, Secret: t.Secret.Reveal()}
		for _, scope := range t.Scopes {
			ts[i].Scopes = append(ts[i].Scopes, handlers.Scope(scope))
		}
	}
	return ts
}
