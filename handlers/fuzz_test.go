package handlers

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzParseCall: whatever comes, the answer is a call that keeps what it promises, or a 4xx that names a place.
func FuzzParseCall(f *testing.F) {
	f.Add([]byte(activityExample))
	for _, tt := range hostile {
		if len(tt.body) < 1000 {
			f.Add([]byte(tt.body))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		original := bytes.Clone(body)
		c, err := parseCall(body)
		if !bytes.Equal(body, original) {
			t.Fatal("the body was changed")
		}
		if err != nil {
			p, ok := errors.AsType[*problem](err)
			if !ok || p.Status < 400 || p.Status > 499 || (p.Status != 413 && len(p.Errors) == 0) {
				t.Fatalf("got %v, want a problem with a place", err)
			}
			return
		}
		checkCall(t, c, body)
	})
}

func checkCall(t *testing.T, c *activityCall, body []byte) {
	switch {
	case !utf8.Valid(body) || !json.Valid(body):
		t.Error("not JSON in UTF-8")
	case !bytes.Contains(body, c.Activity):
		t.Error("the activity is not as it came")
	case c.facts.id == "" || len(c.facts.id) > maxText || c.facts.kind == "" || c.KeyID == "":
		t.Errorf("no ID, type or key: %+v", c)
	case c.facts.orderingKey() == "" || len(c.facts.orderingKey()) > maxText:
		t.Error("no ordering key")
	case len(c.Inboxes)+len(c.Recipients) == 0:
		t.Error("nobody to deliver to")
	case c.ttl < 0 || c.ttl > 720*time.Hour:
		t.Errorf("TTL %s", c.ttl)
	}
	// Read again by another parser: what must not be delivered is not there, by whatever spelling.
	var seen any
	if err := json.Unmarshal(c.Activity, &seen); err != nil {
		t.Fatal(err)
	}
	if concealed(seen) {
		t.Errorf("bto or bcc in %s", c.Activity)
	}
	for _, r := range c.Recipients {
		for _, h := range r.Headers {
			if bytes.ContainsAny([]byte(h.Name+h.Value), "\r\n\x00") || reserved[h.Name] {
				t.Errorf("header %+v", h)
			}
		}
	}
}

// concealed tells whether a value holds bto or bcc outside of a context.
func concealed(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			if name == "bto" || name == "bcc" || name != "@context" && concealed(inner) {
				return true
			}
		}
	case []any:
		for _, inner := range v {
			if concealed(inner) {
				return true
			}
		}
	}
	return false
}

// FuzzParseKeyCall: a key call never tells anything of the key.
func FuzzParseKeyCall(f *testing.F) {
	f.Add([]byte(keyExample))
	f.Fuzz(func(t *testing.T, body []byte) {
		id, text, err := parseKeyCall(body)
		if err == nil && (id == "" || len(text) == 0) {
			t.Errorf("got %q and %d bytes", id, len(text))
		}
	})
}
