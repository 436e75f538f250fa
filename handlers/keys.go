package handlers

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

// keyView is the public half of a key.
type keyView struct {
	KeyID       string `json:"key_id"`
	Algorithm   string `json:"algorithm" enum:"rsa,ed25519"`
	PublicKey   string `json:"public_key_pem"`
	Multibase   string `json:"public_key_multibase" doc:"the public key as a Multikey has it in publicKeyMultibase"`
	Fingerprint string `json:"fingerprint"`
	SealedWith  string `json:"sealed_with,omitempty" doc:"fingerprint of the master key that encrypts it at rest" example:"f9c2e1d04b7a8356"`
	CreatedAt   string `json:"created_at,omitempty" format:"date-time"`
	Pending     int    `json:"pending" doc:"deliveries that wait to be signed by it"`
	WhenIdle    bool   `json:"removed_when_idle,omitempty" doc:"it is removed once nothing waits to be signed by it"`
}

// resealView is what came of re-sealing.
type resealView struct {
	Total    int    `json:"total" doc:"keys looked at"`
	Resealed int    `json:"resealed" doc:"keys that were sealed otherwise"`
	Failed   int    `json:"failed" doc:"keys that can't be opened with any master key of this node, or are damaged; they stay as they are"`
	Seal     string `json:"seal" doc:"fingerprint of the master key that all but those are sealed with now: the node's first" example:"f9c2e1d04b7a8356"`
}

// putKey stores or replaces a key. Nothing of the private key goes anywhere but into the sealer, and what was read of
// it is wiped.
func (s *server) putKey(r *http.Request, body []byte) (reply, error) {
	defer clear(body)
	sent, err := parseKeyCall(body)
	defer sent.wipe()
	if err != nil {
		return reply{}, err
	}
	key, err := s.sealKey(sent)
	if err != nil {
		return reply{}, err
	}
	created, err := s.Queue.PutKey(r.Context(), key)
	if err != nil {
		return reply{}, err
	}
	s.logPut(r.Context(), key)
	return s.keyReply(r, key.ID, created)
}

// logPut logs that a key was put.
func (s *server) logPut(ctx context.Context, k queue.Key) {
	s.logAction(ctx, queue.KeyActed(ctx, queue.ActionPutKey, k.ID), slog.String("fingerprint", k.Fingerprint))
}

// keyReply shows a key as it was stored.
func (s *server) keyReply(r *http.Request, id string, created bool) (reply, error) {
	key, err := s.Queue.Key(r.Context(), id, "")
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return reply{Status: status, Body: keyViewOf(&key)}, err
}

// parseKeyCall reads a key call. The caller wipes the key, also after an error.
func parseKeyCall(body []byte) (*sentKey, error) {
	k := &sentKey{base: "body", raw: body}
	err := unmarshal("body", body, &k.KeyCall)
	if err == nil {
		err = k.check()
	}
	return k, err
}

func checkKeyID(id string) flaw {
	if what := checkText(id); what != (flaw{}) {
		return what
	}
	if err := signer.CheckKeyID(id); err != nil {
		return flaw{codeInvalidValue, err.Error()}
	}
	return flaw{}
}

func keyFilter(q *query) queue.KeyFilter { return queue.KeyFilter{ID: q.Get("key_id")} }

// deleteKey removes a key, at once or once nothing pends that it signs.
func (s *server) deleteKey(r *http.Request, _ []byte) (reply, error) {
	query := r.URL.Query()
	id := query.Get("key_id")
	if id == "" {
		return reply{}, invalid("query.key_id", isMissing)
	}
	remove, status := s.Queue.DeleteKey, http.StatusNoContent
	action := queue.ActionDeleteKey
	switch when := query.Get("when"); {
	case when == "idle":
		remove, status = s.Queue.RetireKey, http.StatusAccepted
		action = queue.ActionRetireKey
	case query.Has("when"):
		return reply{}, invalid("query.when", flaw{codeInvalidValue, "must be idle, or left out"})
	}
	if err := remove(r.Context(), id); err != nil {
		return reply{}, err
	}
	if s.Forget != nil {
		s.Forget(id)
	}
	s.logAction(r.Context(), queue.KeyActed(r.Context(), action, id))
	return reply{Status: status}, nil
}

func keyViewOf(k *queue.Key) keyView {
	return keyView{
		KeyID: k.ID, Algorithm: k.Algorithm, PublicKey: k.PublicPEM, Multibase: signer.PublicMultibase(k.PublicPEM),
		Fingerprint: k.Fingerprint, Pending: k.Pending, WhenIdle: k.WhenIdle,
		SealedWith: signer.SealedWith(k.Sealed), CreatedAt: stamp(k.CreatedAt),
	}
}

// resealKeys reseals every key with the first master key. Keys that come meanwhile are sealed with the first master
// key of the node that they come through.
func (s *server) resealKeys(r *http.Request, _ []byte) (reply, error) {
	view := resealView{Seal: s.Sealer.Fingerprints()[0]}
	defer func() {
		s.actedOnMany(r.Context(), queue.Event{Action: queue.ActionResealKeys, Count: view.Resealed},
			slog.Int("total", view.Total), slog.Int("failed", view.Failed), slog.String("seal", view.Seal))
	}()
	for p := (queue.Page{Limit: maxLimit}); ; {
		list, err := s.Queue.Keys(r.Context(), queue.KeyFilter{Pinned: true}, p)
		if err == nil {
			err = s.resealPage(r.Context(), list.Items, &view)
		}
		if err != nil {
			return reply{}, err
		}
		if p.Cursor = list.Next; p.Cursor == "" {
			break
		}
	}
	return reply{Status: http.StatusOK, Body: view}, nil
}

// resealPage reseals the keys of a page that are not sealed with the first master key, and counts.
func (s *server) resealPage(ctx context.Context, keys []queue.Key, view *resealView) error {
	var changes []queue.Reseal
	for _, k := range keys {
		sealed, err := s.Sealer.Reseal(k.ID, k.Sealed)
		switch {
		case err != nil:
			s.Log.Error("key.reseal_failed", "key_id", k.ID, "error", err)
			view.Failed++
		case sealed != nil:
			changes = append(changes, queue.Reseal{Name: k.Name(), Old: k.Sealed, New: sealed})
		}
	}
	n, err := s.Queue.ResealKeys(ctx, changes)
	view.Total += len(keys)
	view.Resealed += n
	return err
}
