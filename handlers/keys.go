package handlers

import (
	"context"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

// keyCall is the body of PUT /v1/keys. It is for the document: no private key is held as a string, which can't be wiped.
type keyCall struct {
	KeyID      string `json:"key_id" maxLength:"2048" doc:"as receivers look it up"`
	PrivateKey string `json:"private_key_pem" doc:"RSA (2048 to 8192 bits; PKCS#1 or PKCS#8) or Ed25519 (PKCS#8); it never leaves again"`
}

// keyView is the public half of a key.
type keyView struct {
	KeyID       string `json:"key_id"`
	Algorithm   string `json:"algorithm" enum:"rsa,ed25519"`
	PublicKey   string `json:"public_key_pem"`
	Fingerprint string `json:"fingerprint"`
	SealedWith  string `json:"sealed_with,omitempty" doc:"fingerprint of the master key that encrypts it at rest" example:"f9c2e1d04b7a8356"`
	CreatedAt   string `json:"created_at,omitempty" format:"date-time"`
}

// resealView is what came of re-sealing.
type resealView struct {
	Total    int    `json:"total" doc:"keys looked at"`
	Resealed int    `json:"resealed" doc:"keys that were sealed otherwise"`
	Failed   int    `json:"failed" doc:"keys that can't be opened with any master key of this node, or are damaged; they stay as they are"`
	Seal     string `json:"seal" doc:"fingerprint of the master key that all but those are sealed with now: the node's first" example:"f9c2e1d04b7a8356"`
}

var keyNames = []string{"key_id", "private_key_pem"}

// putKey stores or replaces a key. Nothing of the private key goes anywhere but into the sealer, and what was read of it
// is wiped.
func (s *server) putKey(r *http.Request, body []byte) (reply, error) {
	defer clear(body)
	id, text, err := parseKeyCall(body)
	defer clear(text)
	if err != nil {
		return reply{}, err
	}
	private, err := signer.ParsePrivateKey(text)
	if err != nil {
		return reply{}, invalid("body.private_key_pem", err.Error())
	}
	key := queue.Key{
		ID: id, Algorithm: private.Algorithm(), PublicPEM: private.PublicPEM(), Fingerprint: private.Fingerprint(),
	}
	if key.Sealed, err = s.Sealer.Seal(key.ID, private); err != nil {
		return reply{}, fmt.Errorf("seal key %s: %w", key.ID, err)
	}
	created, err := s.Queue.PutKey(r.Context(), key)
	if err != nil {
		return reply{}, fmt.Errorf("put key %s: %w", key.ID, err)
	}
	s.Log.Info("key.put", "key_id", key.ID, "fingerprint", key.Fingerprint, "token", visitOf(r).token)
	return s.keyReply(r, key.ID, created)
}

// keyReply shows a key as it was stored.
func (s *server) keyReply(r *http.Request, id string, created bool) (reply, error) {
	key, err := s.Queue.Key(r.Context(), id)
	if err != nil {
		return reply{}, fmt.Errorf("look up key %s: %w", id, err)
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return reply{Status: status, Body: s.keyViewOf(&key)}, nil
}

// parseKeyCall reads a key call. Its faults repeat nothing of what was sent. The caller wipes the text of the key.
func parseKeyCall(body []byte) (id string, text []byte, err error) {
	p := newParser("body", body)
	if p.dec.PeekKind() != jsontext.KindBeginObject {
		return "", nil, p.malformed(0)
	}
	err = p.object(keyNames, func(i int) (err error) {
		if keyNames[i] == "key_id" {
			return p.checked(&id, checkKeyID)
		}
		text, err = p.secret()
		return err
	})
	if err == nil && len(p.faults) == 0 && id == "" {
		err = p.faultAt("key_id", "is missing")
	}
	if err == nil && len(p.faults) == 0 && len(text) == 0 {
		err = p.faultAt("private_key_pem", "is missing")
	}
	return id, text, p.finish(err)
}

func checkKeyID(id string) string {
	if message := checkText(id); message != "" {
		return message
	}
	if err := signer.CheckKeyID(id); err != nil {
		return err.Error()
	}
	return ""
}

func (s *server) listKeys(r *http.Request, _ []byte) (reply, error) {
	p, err := pageOf(r)
	if err != nil {
		return reply{}, err
	}
	list, err := s.Queue.Keys(r.Context(), p)
	if err != nil {
		return reply{}, fmt.Errorf("list keys: %w", err)
	}
	return listReply(list, s.keyViewOf), nil
}

func (s *server) deleteKey(r *http.Request, _ []byte) (reply, error) {
	id := r.URL.Query().Get("key_id")
	if id == "" {
		return reply{}, invalid("query.key_id", "is missing")
	}
	if err := s.Queue.DeleteKey(r.Context(), id); err != nil {
		return reply{}, fmt.Errorf("delete key: %w", err)
	}
	s.Log.Info("key.delete", "key_id", id, "token", visitOf(r).token)
	return reply{Status: http.StatusNoContent}, nil
}

func (s *server) keyViewOf(k *queue.Key) keyView {
	return keyView{
		KeyID: k.ID, Algorithm: k.Algorithm, PublicKey: k.PublicPEM, Fingerprint: k.Fingerprint,
		SealedWith: s.Sealer.SealedWith(k.ID, k.Sealed), CreatedAt: stamp(k.CreatedAt),
	}
}

// resealKeys seals every key anew with the first master key. Keys that come meanwhile are sealed with the first master
// key of the node that they come through.
func (s *server) resealKeys(r *http.Request, _ []byte) (reply, error) {
	view := resealView{Seal: s.Sealer.Fingerprints()[0]}
	for p := (queue.Page{Limit: maxLimit}); ; {
		list, err := s.Queue.Keys(r.Context(), p)
		if err == nil {
			err = s.resealPage(r.Context(), list.Items, &view)
		}
		if err != nil {
			return reply{}, fmt.Errorf("reseal keys: %w", err)
		}
		if p.Cursor = list.Next; p.Cursor == "" {
			break
		}
	}
	s.Log.Info("key.reseal", "total", view.Total, "resealed", view.Resealed, "failed", view.Failed, "seal", view.Seal,
		"token", visitOf(r).token)
	return reply{Status: http.StatusOK, Body: view}, nil
}

// resealPage seals anew what isn't sealed with the first master key, and counts.
func (s *server) resealPage(ctx context.Context, keys []queue.Key, view *resealView) error {
	var changes []queue.Reseal
	for _, k := range keys {
		sealed, err := s.Sealer.Reseal(k.ID, k.Sealed)
		switch {
		case err != nil:
			s.Log.Error("key.reseal_failed", "key_id", k.ID, "error", err)
			view.Failed++
		case sealed != nil:
			changes = append(changes, queue.Reseal{ID: k.ID, Old: k.Sealed, New: sealed})
		}
	}
	n, err := s.Queue.ResealKeys(ctx, changes)
	view.Total += len(keys)
	view.Resealed += n
	return err
}
