package app

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/postrider/postrider/delivery"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/internal/resolver"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

const (
	maxKeyFile  = 64 << 10 // far more than the largest key that is accepted
	maxActivity = 1 << 20
)

// send makes one attempt to deliver an activity to an inbox, without a node, and shows all of it. It returns an error unless
// the inbox accepts the activity.
func (p Program) send(ctx context.Context, cfg *config.Config, in io.Reader) error {
	policy := netguard.NewPolicy(cfg.AllowPrivateAddresses, cfg.DenyAddresses...)
	inbox, refusal := netguard.ParseInbox(cfg.Send.Inbox, cfg.AllowHTTP, policy)
	if refusal != nil {
		return fmt.Errorf("send: inbox: %w", refusal)
	}
	activity, err := readActivity(cfg.Send.File, in)
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	keys, err := singleKey(cfg, in)
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	roots, err := cfg.RootCAs()
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	names := resolver.New(resolver.Options{Timeout: cfg.DNSTimeout, Servers: p.NameServers, Log: slog.New(slog.DiscardHandler)})
	client := delivery.NewClient(delivery.ClientOptions{
		ConnectTimeout: cfg.ConnectTimeout, AttemptTimeout: cfg.AttemptTimeout, Policy: policy, Resolver: names, RootCAs: roots,
	})
	defer client.Close()
	report := delivery.Once(ctx, delivery.Options{
		Signer: keys, Client: client, Policy: policy, AttemptTimeout: cfg.AttemptTimeout, AllowHTTP: cfg.AllowHTTP, UserAgent: cfg.UserAgent,
	}, queue.Delivery{
		Inbox:    inbox.URL,
		Activity: &queue.Activity{KeyID: cfg.Send.KeyID, Body: activity, Digest: sha256.Sum256(activity)},
	})
	if _, err := report.WriteTo(p.Stdout); err != nil {
		return err
	}
	if report.Outcome != delivery.OutcomeDelivered {
		return fmt.Errorf("send: the inbox did not accept the activity: %s", report.Outcome)
	}
	return nil
}

// readActivity reads a file, or standard input if its name is "-". An inbox may refuse much more than this does.
func readActivity(name string, in io.Reader) ([]byte, error) {
	text, err := config.ReadBounded(name, in, maxActivity)
	if err != nil {
		return nil, fmt.Errorf("activity: %w", err)
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(text, &object) != nil || object == nil {
		return nil, errors.New("activity: the file is no JSON object")
	}
	return text, nil
}

// sealedKey is a signer.Store with one key.
type sealedKey []byte

// SealedKey implements signer.Store.
func (k sealedKey) SealedKey(context.Context, string, string) ([]byte, error) { return k, nil }

// singleKey returns a signer with the key of the settings. It is sealed with a master key that nobody keeps.
func singleKey(cfg *config.Config, in io.Reader) (*signer.Signer, error) {
	if err := signer.CheckKeyID(cfg.Send.KeyID); err != nil {
		return nil, err
	}
	text, err := config.ReadBounded(cfg.Send.KeyFile, in, maxKeyFile)
	defer clear(text)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	private, err := signer.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	master := make([]byte, signer.MasterKeySize)
	_, _ = rand.Read(master) // it never fails
	sealer, err := signer.NewSealer(master)
	if err != nil {
		return nil, err
	}
	sealed, err := sealer.Seal(cfg.Send.KeyID, private)
	if err != nil {
		return nil, err
	}
	rsa, _, err := signer.OpenRSA(cfg.Signing)
	if err != nil {
		return nil, err
	}
	return signer.New(signer.Options{Store: sealedKey(sealed), Sealer: sealer, RSA: rsa}), nil
}
