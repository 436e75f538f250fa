// Package bench measures a node on this machine, beside bare loops that do the minimum for the same work.
//
// A node, the inboxes it delivers to and the bare loops are separate processes: this program, started again in a role, so
// that the CPU and the memory of each can be measured. All of them are on loopback.
//
// What callers may rely on:
//
//   - All measured deliveries arrived, and those that were sampled (one in 20) were signed correctly; anything else is an
//     error.
//   - Figures that are compared were measured in the same run, a few seconds apart. Of several runs, medians are shown.
//   - When Run returns, with or without an error, it leaves no process, folder or key in Redis.
//
// What callers may not rely on: that two runs, or two machines, give equal figures; that a store in a memory file system
// (TMPDIR says where) is as slow as one on a disk.
//
// It is part of the program, though mostly developers use it: bench is a promised command, because operators want the
// figures of their own machine and program. That costs 0.4 MB, 1.4 % of the file.
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
	// Args and Environ are those of this process. The other processes are started with the same.
	Args, Environ []string
	// Serve runs a node until its context ends, and calls listening once the node answers calls.
	Serve func(ctx context.Context, cfg *config.Config, log *slog.Logger, listening func(address string)) error
	// OpenStore opens the store that such a node would use.
	OpenStore func(ctx context.Context, cfg *config.Config, log *slog.Logger) (queue.Queue, lockmgr.Manager, error)
	In        io.Reader // the requests to a process in a role
	Out       io.Writer // the result
	Progress  io.Writer // the progress
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
	stores  int
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
		return nil // interrupted
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
	err = handleRequests(ctx, o.In, o.Out, role.commands())
	if s, ok := role.(interface{ stop() error }); ok {
		err = errors.Join(err, s.stop())
	}
	return err
}

// role is the part of a process in the measurement.
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
	b.signing = backend.Name()
	b.bares = []string{"go"}
	if _, _, err := signer.OpenRSA("openssl"); err == nil {
		b.bares = append(b.bares, "openssl")
	}
	b.redis, err = b.connect()
	return err
}

// sameSigning names the bare loop with the node's signing back-end.
func (b *bench) sameSigning() string {
	if b.signing == "go" {
		return "go"
	}
	return "openssl"
}

func (b *bench) privatePEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b.private}))
}

// newLocation returns a location for a store.
func (b *bench) newLocation() location {
	b.stores++
	return location{
		Dir:    filepath.Join(b.dir, fmt.Sprintf("store-%d", b.stores)),
		Prefix: fmt.Sprintf("%s-%d", filepath.Base(b.dir), b.stores), // postrider-bench-RANDOM-N
	}
}

// clear deletes the store at a location, also if the measurement was interrupted.
func (b *bench) clear(ctx context.Context, at location) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	return errors.Join(b.redis.deleteKeys(ctx, at.Prefix), os.RemoveAll(at.Dir))
}

// measure runs the scenarios, as often as the arguments say.
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
