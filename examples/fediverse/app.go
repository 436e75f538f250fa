package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"time"
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

// app is what posts.
type app struct {
	node, token string
	run         int64 // another run's activities are other activities
	posted      int
}

// firstToken returns the first token of a node's list of NAME:TOKEN, or "" where there is none.
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
	return a.call(ctx, http.MethodPut, "/v1/keys", map[string]string{"key_id": keyID, "private_key_pem": text})
}

// post posts the next activity and returns its id.
func (a *app) post(ctx context.Context, inboxes []string) (id string, err error) {
	a.posted++
	id = fmt.Sprintf("https://app.example/activities/%d-%d", a.run, a.posted)
	note := fmt.Sprintf("https://app.example/notes/%d-%d", a.run, a.posted)
	activity := map[string]any{
		"@context": "https://www.w3.org/ns/activitystreams", "id": id, "type": "Create", "actor": actor,
		"object": map[string]string{"id": note, "type": "Note", "attributedTo": actor, "content": "Hello, fediverse"},
	}
	call := map[string]any{"activity": activity, "key_id": keyID, "inboxes": inboxes}
	return id, a.call(ctx, http.MethodPost, "/v1/activities", call)
}

// call makes a call until a node accepts it or ctx ends. To repeat it is safe: the bytes are the same.
func (a *app) call(ctx context.Context, method, path string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	// No connection is kept: the next call may go to another node of the fleet.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	for {
		err := a.try(ctx, client, method, path, body)
		if err == nil || ctx.Err() != nil {
			return err
		}
		log.Print("again: ", err)
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

func (a *app) try(ctx context.Context, client *http.Client, method, path string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, method, a.node+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+a.token)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode > 299 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	return err
}
