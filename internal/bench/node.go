package bench

import (
	"context"
	"net/netip"
	"time"

	"github.com/postrider/postrider/internal/config"
)

// location is where a store is.
type location struct {
	Dir    string // of an embedded store
	Prefix string // of one on Redis
}

// nodeSpec says how a node differs from the user's settings.
type nodeSpec struct {
	Location location
	CAFile   string
	Hasty    bool // with short time-outs, because some hosts hang
}

// The time-outs if some hosts hang: with those of the settings their breakers would take minutes to open.
const (
	hastyConnect  = time.Second
	hastyAttempt  = 2 * time.Second
	hastyFailures = 3
)

// settings returns the user's settings, on a store of the measurement.
func (o *Options) settings(at location) *config.Config {
	cfg := *o.Config
	cfg.TLSCertFile = ""
	cfg.TLSKeyFile = ""
	cfg.Deliver = true
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
	cfg := n.o.settings(spec.Location)
	cfg.Listen = "127.0.0.1:0"
	cfg.APITokens = nil
	cfg.AllowHTTP = true
	cfg.AllowPrivateAddresses = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	cfg.ShutdownTimeout = time.Second
	if spec.CAFile != "" {
		cfg.CAFile = spec.CAFile
	}
	if spec.Hasty {
		cfg.ConnectTimeout = hastyConnect
		cfg.AttemptTimeout = hastyAttempt
		cfg.BreakerThreshold = hastyFailures
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
