// Package demo is a small fediverse in one process: a node on the embedded store in a temporary folder, and inboxes on
// loopback that verify every signature, some of them slow, failing or dead.
package demo

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/kits/go/client"
)

const (
	activities = 200
	keyID      = "https://demo.example/users/alice#main-key"
	patience   = time.Minute // for the next delivery to a healthy host
)

// Options configure a demo.
type Options struct {
	Config *config.Config
	Exit   bool // end after the summary, instead of waiting for the end of the context
	// Serve runs a node that asks this name server until its context ends, and calls listening once the node answers calls.
	Serve func(ctx context.Context, cfg *config.Config, log *slog.Logger, nameServer string, listening func(address string)) error
	Out   io.Writer
	IsTTY bool
	Log   *slog.Logger
}

// ErrIncomplete means that a healthy inbox did not get every activity with a valid signature.
var ErrIncomplete = errors.New("not every healthy inbox got every activity")

// Run runs the demo: it returns nil if every healthy inbox got every activity with a valid signature.
func Run(ctx context.Context, o Options) error {
	dir, err := os.MkdirTemp("", "postrider-demo-")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	world, err := newWorld(func(id string) crypto.PublicKey {
		if id != keyID {
			return nil
		}
		return &key.PublicKey
	})
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer world.close()
	node, err := startNode(ctx, o, world.names.address(), filepath.Join(dir, "store"))
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	err = show(ctx, o, node, world, key)
	cancel()
	return errors.Join(err, <-node.ended)
}

// show posts the activities, shows the progress, and prints a summary.
func show(ctx context.Context, o Options, n *node, w *world, key *rsa.PrivateKey) error {
	fmt.Fprintf(o.Out, "Postrider demo: %d activities to %d inboxes on %d hosts; the node is at http://%s\n",
		activities, len(w.inboxes()), len(w.hosts), n.address)
	if err := n.putKey(ctx, key); err != nil {
		return err
	}
	posted := make(chan error, 1)
	go func() { posted <- n.postAll(ctx, w.inboxes()) }()
	began := time.Now()
	err := watch(ctx, o, w, patience)
	if postErr := <-posted; postErr != nil {
		return postErr
	}
	if err != nil && !errors.Is(err, ErrIncomplete) {
		return err
	}
	if err := summarise(ctx, o.Out, n, w, time.Since(began)); err != nil {
		return err
	}
	if err == nil && !o.Exit {
		fmt.Fprintf(o.Out, "\nThe node stays up at http://%s until Ctrl-C.\n", n.address)
		<-ctx.Done()
	}
	return err
}

// node is the demo's node, as an app sees it.
type node struct {
	address string
	api     *client.Client
	ended   chan error
}

// startNode runs a node with the demo's settings: those of any node, with shorter times.
func startNode(ctx context.Context, o Options, nameServer, dir string) (*node, error) {
	cfg := *o.Config
	cfg.Store = config.Store{Kind: config.Embedded, Dir: dir}
	cfg.Listen = freeAddress(cfg.Listen)
	cfg.AllowHTTP = true
	cfg.Deliver = true
	cfg.TLSCertFile = ""
	cfg.TLSKeyFile = ""
	cfg.AllowPrivateAddresses = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	cfg.AttemptTimeout = 2 * time.Second
	cfg.ConnectTimeout = time.Second
	cfg.RetryBase = 250 * time.Millisecond
	cfg.BreakerThreshold = 5
	cfg.BreakerCoolOff = time.Second
	cfg.BreakerCoolOffMax = 8 * time.Second
	cfg.ShutdownTimeout = 3 * time.Second
	n := &node{ended: make(chan error, 1)}
	token := ""
	if len(cfg.APITokens) > 0 {
		token = cfg.APITokens[0].Secret.Reveal()
	}
	listening := make(chan string, 1)
	go func() {
		n.ended <- o.Serve(ctx, &cfg, o.Log, nameServer, func(address string) { listening <- address })
	}()
	select {
	case n.address = <-listening:
		n.api = client.New(client.Options{URL: "http://" + n.address, Token: token, Patience: -1})
		return n, nil
	case err := <-n.ended:
		return nil, err
	}
}

// freeAddress returns the address if it is free, else one on loopback with a free port.
func freeAddress(address string) string {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "127.0.0.1:0"
	}
	l.Close()
	return address
}

func (n *node) putKey(ctx context.Context, key *rsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	_, err = n.api.PutKey(ctx, client.Key{ID: keyID, PEM: string(text)})
	return err
}

func (n *node) postAll(ctx context.Context, inboxes []string) error {
	for i := range activities {
		call := client.Call{Activity: makeActivity(i), KeyID: keyID, Inboxes: inboxes}
		if _, err := n.api.Deliver(ctx, call); err != nil {
			return err
		}
	}
	return nil
}

// makeActivity makes the i-th activity: a note, an update of it, a like or an announcement.
func makeActivity(i int) client.Text {
	const actor = "https://demo.example/users/alice"
	id := fmt.Sprintf("https://demo.example/activities/%d", i)
	note := fmt.Sprintf("https://demo.example/notes/%d", i-i%4)
	a := map[string]any{
		"@context": "https://www.w3.org/ns/activitystreams", "id": id, "actor": actor,
		"to": []string{"https://www.w3.org/ns/activitystreams#Public"}, "cc": []string{actor + "/followers"},
	}
	object := map[string]any{
		"id": note, "type": "Note", "attributedTo": actor, "published": "2026-01-02T15:04:05Z",
		"content": fmt.Sprintf("<p>Grüße aus der Postkutsche, Halt Nr. %d 🐎</p>", i),
	}
	switch i % 4 {
	case 0:
		a["type"], a["object"] = "Create", object
	case 1:
		object["updated"] = "2026-01-02T15:05:05Z"
		a["type"], a["object"] = "Update", object
	case 2:
		a["type"], a["object"] = "Like", fmt.Sprint("https://remote.example/notes/", i)
	case 3:
		a["type"], a["object"] = "Announce", note
	}
	raw, err := json.Marshal(a)
	if err != nil {
		panic(err) // strings only
	}
	return raw
}
