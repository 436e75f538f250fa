package bench

import (
	"context"
	"net/netip"
	"time"

	"github.com/postrider/postrider/internal/config"
)

// place is where a store is.
type place struct {
	Dir    string // of the embedded one
	Prefix string // on Redis
}

// nodeSpec says how a node shall be, beside what the user set.
type nodeSpec struct {
	Place  place
	CAFile string
	Hasty  bool // with little patience, because some hosts hang
}

// The patience where some hosts hang: with that of the settings their breakers would take minutes to open.
const (
	hastyConnect  = time.Second
	hastyAttempt  = 2 * time.Second
	hastyFailures = 3
)

// settings returns the user's settings, on a store of the measurement.
func (o *Options) settings(at place) *config.Config {
	cfg := *o.Config
	if cfg.Store.IsRedis() {
		cfg.RedisPrefix = at.Prefix
		cfg.MasterKey = []config.Secret{config.NewSecret(masterKey)}
	} else {
		cfg.Store.Dir = at.Dir
	}
	return &cfg
}

// masterKey encrypts a private key that is made for the run and signs nothing else.
const masterKey = "thirty-two bytes known to anyone"

// node is the role of a node.
type node struct {
	o     *Options
	ended chan error
	end   context.CancelFunc
}

func (n *node) commands() commands { return commands{"start": command(n.start)} }

// start starts the node and returns its address.
func (n *node) start(ctx context.Context, spec nodeSpec) (any, error) {
	cfg := n.o.settings(spec.Place)
	cfg.Listen, cfg.APITokens = "127.0.0.1:0", nil
	cfg.AllowHTTP = true
	cfg.AllowPrivateAddresses = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	cfg.ShutdownTimeout = time.Second
	if spec.CAFile != "" {
		cfg.CAFile = spec.CAFile
	}
	if spec.Hasty {
		cfg.ConnectTimeout, cfg.AttemptTimeout, cfg.BreakerThreshold = hastyConnect, hastyAttempt, hastyFailures
	}
	ctx, n.end = context.WithCancel(ctx)
	n.ended = make(chan error, 1)
	listening := make(chan string, 1)
	go func() { n.ended <- n.o.Serve(ctx, cfg, n.o.Log, func(address string) { listening <- address }) }()
	select {
	case address := <-listening:
		return address, nil
	case err := <-n.ended:
		n.ended <- err // for stop
		return nil, err
	}
}

// stop stops the node and waits for it.
func (n *node) stop() error {
	if n.end == nil {
		return nil
	}
	n.end()
	return <-n.ended
}
