package handlers

import (
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

// keyCall is the body of PUT /v1/keys.
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
	CreatedAt   string `json:"created_at,omitempty" format:"date-time"`
}

var keyNames = []string{"key_id", "private_key_pem"}

// putKey stores or replaces a key. Nothing of the private key goes anywhere but into the sealer.
func (s *server) putKey(r *http.Request, body []byte) (reply, error) {
	call, err := parseKeyCall(body)
	if err != nil {
		return reply{}, err
	}
	private, err := signer.ParsePrivateKey([]byte(call.PrivateKey))
	if err != nil {
		return reply{}, invalid("body.private_key_pem", err.Error())
	}
	key := queue.Key{
		ID: call.KeyID, Algorithm: private.Algorithm(), PublicPEM: private.PublicPEM(), Fingerprint: private.Fingerprint(),
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
	return reply{Status: status, Body: keyViewOf(&key)}, nil
}

// parseKeyCall reads a key call. Its faults repeat nothing of what was sent.
func parseKeyCall(body []byte) (*keyCall, error) {
	c, p := &keyCall{}, newParser("body", body)
	if p.dec.PeekKind() != jsontext.KindBeginObject {
		return nil, p.malformed(0)
	}
	err := p.object(keyNames, func(i int) (err error) {
		if keyNames[i] == "key_id" {
			return p.checked(&c.KeyID, checkKeyID)
		}
		c.PrivateKey, err = p.str()
		return err
	})
	if err == nil && len(p.faults) == 0 && c.KeyID == "" {
		err = p.faultAt("key_id", "is missing")
	}
	if err == nil && len(p.faults) == 0 && c.PrivateKey == "" {
		err = p.faultAt("private_key_pem", "is missing")
	}
	if err := p.finish(err); err != nil {
		return nil, err
	}
	return c, nil
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
	return listReply(list, keyViewOf), nil
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

func keyViewOf(k *queue.Key) keyView {
	return keyView{
		KeyID: k.ID, Algorithm: k.Algorithm, PublicKey: k.PublicPEM, Fingerprint: k.Fingerprint,
		CreatedAt: stamp(k.CreatedAt),
	}
}
