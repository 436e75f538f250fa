// Package bench measures what a node does on this machine, beside the least that a Go program has to do for the same.
//
// A node, the inboxes it delivers to and what it is measured against are processes of their own: this program, started
// again in a role, so that the CPU and the memory of each can be told apart. All of them are on loopback.
//
// What callers may rely on:
//
//   - A figure is only given of deliveries that all arrived, and of which those looked at (one in 20) were signed
//     correctly; anything else is an error.
//   - What is compared was measured in the same run, a few seconds apart. Of several runs, medians are shown.
//   - When Run returns, however it ends, no process, folder or key in Redis is left of it.
//
// What callers may not rely on: that two runs, or two machines, give equal figures; that a store in a folder of memory
// (TMPDIR says where) is as slow as one on a disk.
package bench

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

// Options configure a measurement.
type Options struct {
	Config *config.Config
	// Args and Environ are those of this process: the others are started with the same.
	Args, Environ []string
	// Serve runs a node until its context ends, and calls listening once calls are answered.
	Serve func(ctx context.Context, cfg *config.Config, log *slog.Logger, listening func(address string)) error
	// OpenStore opens the store that such a node would use.
	OpenStore func(ctx context.Context, cfg *config.Config, log *slog.Logger) (queue.Queue, lockmgr.Manager, error)
	In        io.Reader // what a process in a role obeys
	Out       io.Writer // the result
	Progress  io.Writer // what is being done
	Log       *slog.Logger
}

// bench is a measurement under way.
type bench struct {
	o       *Options
	dir     string
	redis   *server
	key     *rsa.PrivateKey
	private []byte // the key in PKCS#8 form
	signing string // the node's back-end: go, or openssl and its version
	bares   []string
	size    sizes
	places  int
}

// Run measures and writes the result to Out or, in a process that another one started, plays its role.
func Run(ctx context.Context, o Options) error {
	if o.Config.Bench.Role != "" {
		return o.play(ctx)
	}
	dir, err := os.MkdirTemp("", "postrider-bench-")
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer os.RemoveAll(dir)
	b := &bench{o: &o, dir: dir, size: sizeOf(o.Config.Bench)}
	if err := b.prepare(); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer b.redis.close()
	report, err := b.measure(ctx)
	if ctx.Err() != nil {
		return nil // it was told to stop
	}
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return report.write(o.Out, o.Config.Bench)
}

// play plays a role until In ends.
func (o *Options) play(ctx context.Context) error {
	role, err := o.role()
	if err != nil {
		return err
	}
	err = obey(ctx, o.In, o.Out, role.commands())
	if s, ok := role.(interface{ stop() error }); ok {
		err = errors.Join(err, s.stop())
	}
	return err
}

// role is a part that a process plays.
type role interface{ commands() commands }

func (o *Options) role() (role, error) {
	switch name := o.Config.Bench.Role; name {
	case "sink":
		return &sink{}, nil
	case "bare":
		return bareRole{}, nil
	case "node":
		return &node{o: o}, nil
	case "filler":
		return &filler{o: o}, nil
	case "inserts":
		return &inserts{o: o}, nil
	default:
		return nil, fmt.Errorf("bench has no role %q", name)
	}
}

// prepare makes the key, looks for signing back-ends and connects to Redis.
func (b *bench) prepare() (err error) {
	if b.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return err
	}
	if b.private, err = x509.MarshalPKCS8PrivateKey(b.key); err != nil {
		return err
	}
	backend, _, err := signer.OpenRSA(b.o.Config.Signing)
	if err != nil {
		return err
	}
	b.signing, b.bares = backend.Name(), []string{"go"}
	if _, _, err := signer.OpenRSA("openssl"); err == nil {
		b.bares = append(b.bares, "openssl")
	}
	b.redis, err = b.connect()
	return err
}

// sameSigning is the bare loop with the node's signing back-end.
func (b *bench) sameSigning() string {
	if b.signing == "go" {
		return "go"
	}
	return "openssl"
}

func (b *bench) privatePEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b.private}))
}

// newPlace returns a place for a store.
func (b *bench) newPlace() place {
	b.places++
	return place{
		Dir:    filepath.Join(b.dir, fmt.Sprintf("store-%d", b.places)),
		Prefix: fmt.Sprintf("%s-%d", filepath.Base(b.dir), b.places), // postrider-bench-RANDOM-N
	}
}

// clear deletes what is at a place, also if the measurement was told to stop.
func (b *bench) clear(ctx context.Context, at place) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	return errors.Join(b.redis.forget(ctx, at.Prefix), os.RemoveAll(at.Dir))
}

// measure runs the scenarios, as often as was asked for.
func (b *bench) measure(ctx context.Context) (*Report, error) {
	store, err := b.redis.name(ctx)
	if err != nil {
		return nil, err
	}
	report := &Report{Machine: thisMachine(b.signing, store), Runs: b.o.Config.Bench.Runs, Short: b.o.Config.Bench.Short}
	runs := map[string][]figures{}
	for run := range report.Runs {
		for _, name := range b.o.Config.Bench.Scenarios {
			fmt.Fprintf(b.o.Progress, "run %d of %d: %s … ", run+1, report.Runs, name)
			began := time.Now()
			f, err := scenarios()[name](b, ctx)
			if err != nil {
				fmt.Fprintln(b.o.Progress)
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			fmt.Fprintf(b.o.Progress, "%.0f s\n", time.Since(began).Seconds())
			runs[name] = append(runs[name], f)
		}
	}
	for _, name := range b.o.Config.Bench.Scenarios {
		report.Scenarios = append(report.Scenarios, Result{Name: name, Figures: medians(runs[name]), Runs: runs[name]})
	}
	return report, nil
}
