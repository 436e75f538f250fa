package client

import (
	"context"
	"encoding/json"
	"iter"
	"maps"
	"net/http"
	"net/url"
)

// Key is a private key, RSA or Ed25519: either PEM or JWK.
type Key struct {
	ID  string          `json:"key_id"` // the URL by which receivers look the public key up
	PEM string          `json:"private_key_pem,omitempty"`
	JWK json.RawMessage `json:"private_key_jwk,omitempty"`
	Pin bool            `json:"pin,omitempty"` // only in a Call: this very key signs it, even if another is put later
}

// KeyInfo is what the node shows of a key.
type KeyInfo struct {
	ID              string `json:"key_id"`
	Algorithm       string `json:"algorithm"` // rsa or ed25519
	PublicKeyPEM    string `json:"public_key_pem"`
	Fingerprint     string `json:"fingerprint"`
	Pending         int    `json:"pending"` // deliveries that wait to be signed by it
	RemovedWhenIdle bool   `json:"removed_when_idle"`
}

// PutKey stores or replaces a key.
func (c *Client) PutKey(ctx context.Context, key Key) (info KeyInfo, err error) {
	body, err := encode(key)
	if err != nil {
		return info, err
	}
	_, err = c.Do(ctx, http.MethodPut, "/v1/keys", body, &info)
	return info, err
}

// Keys lists the public halves of all keys, by ID.
func (c *Client) Keys(ctx context.Context) iter.Seq2[KeyInfo, error] {
	return List[KeyInfo](ctx, c, "/v1/keys", nil)
}

// DeleteKey removes a key at once: what it would sign waits for it.
func (c *Client) DeleteKey(ctx context.Context, id string) error {
	_, err := c.Do(ctx, http.MethodDelete, "/v1/keys?"+url.Values{"key_id": {id}}.Encode(), nil, nil)
	return err
}

// DeleteKeyWhenIdle removes a key once no delivery waits to be signed by it.
func (c *Client) DeleteKeyWhenIdle(ctx context.Context, id string) error {
	_, err := c.Do(ctx, http.MethodDelete, "/v1/keys?"+url.Values{"key_id": {id}, "when": {"idle"}}.Encode(), nil, nil)
	return err
}

// List returns the items of all pages of a list of the API, such as List[json.RawMessage](ctx, c, "/v1/dead-letters",
// url.Values{"reason": {"gone"}}). An error ends it.
func List[T any](ctx context.Context, c *Client, path string, query url.Values) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		query := cloned(query)
		query.Set("limit", "500")
		for {
			var page page[T]
			if _, err := c.Do(ctx, http.MethodGet, path+"?"+query.Encode(), nil, &page); err != nil {
				yield(*new(T), err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			query.Set("cursor", page.Next)
		}
	}
}

// page is a part of a list.
type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next_cursor"`
}

// cloned returns a copy that may be changed.
func cloned(query url.Values) url.Values {
	if query == nil {
		return url.Values{}
	}
	return maps.Clone(query)
}
