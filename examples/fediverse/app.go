package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/postrider/postrider/kits/go/client"
)

const (
	actor = "https://app.example/users/alice"
	keyID = actor + "#main-key"
)

// key signs for the actor.
type key struct{ private *rsa.PrivateKey }

func newKey() (key, error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	return key{private}, err
}

func (k key) public() *rsa.PublicKey { return &k.private.PublicKey }

func (k key) pem() (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), err
}

// app posts activities to a node.
type app struct {
	node   *client.Client
	run    int64 // part of the ids, so that runs have different activities
	posted int
}

// newApp returns an app that repeats each call until a node accepts it. It keeps no connection: the next call may go to
// another node of the fleet.
func newApp(node, token string) *app {
	return &app{run: time.Now().UnixMilli(), node: client.New(client.Options{
		URL: node, Token: token, Patience: math.MaxInt64,
		HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second},
	})}
}

// firstToken returns the first token of a node's list of NAME:TOKEN, or "" if there is none.
func firstToken(list string) string {
	first, _, _ := strings.Cut(list, ",")
	_, token, _ := strings.Cut(first, ":")
	return token
}

func (a *app) putKey(ctx context.Context, k key) error {
	text, err := k.pem()
	if err != nil {
		return err
	}
	_, err = a.node.PutKey(ctx, client.Key{ID: keyID, PEM: text})
	return err
}

// post posts the next activity and returns its id.
func (a *app) post(ctx context.Context, inboxes []string) (id string, err error) {
	a.posted++
	id = fmt.Sprintf("https://app.example/activities/%d-%d", a.run, a.posted)
	note := fmt.Sprintf("https://app.example/notes/%d-%d", a.run, a.posted)
	activity, err := json.Marshal(map[string]any{
		"@context": "https://www.w3.org/ns/activitystreams", "id": id, "type": "Create", "actor": actor,
		"object": map[string]string{"id": note, "type": "Note", "attributedTo": actor, "content": "Hello, fediverse"},
	})
	if err != nil {
		return "", err
	}
	_, err = a.node.Deliver(ctx, client.Call{Activity: activity, KeyID: keyID, Inboxes: inboxes})
	return id, err
}
