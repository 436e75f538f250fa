package handlers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/queue"
)

// FuzzParseCall: the answer to any text is a call that keeps what it promises, or a 4xx that names a location.
func FuzzParseCall(f *testing.F) {
	f.Add([]byte(activityExample))
	f.Add([]byte(call(`"activity":"{\"id\":\"a\",\"type\":\"Like\",\"name\":\"\\u00e9\"}"`, aKey, anInbox)))
	for _, tt := range slices.Concat(hostile, hiding) {
		if len(tt.body) < 1000 {
			f.Add([]byte(tt.body))
		}
	}
	for _, tt := range families {
		f.Add([]byte(call(`"activity":`+parties.Replace(tt.activity), aKey, anInbox)))
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
				t.Fatalf("got %v, want a problem with a location", err)
			}
			if p.Status == 400 && p.Errors[0].Location == "body" && isObject(body) {
				t.Fatalf("encoding/json takes what is refused as no JSON object: %+v", p.Errors)
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
	case !bytes.Contains(body, c.Activity) && !isTextOf(c.Activity, body):
		t.Error("the activity is not as it came")
	case c.facts.id == "" || len(c.facts.id) > maxText || c.facts.kind == "" || c.KeyID == "":
		t.Errorf("no ID, type or key: %+v", c)
	case len(c.Inboxes)+len(c.Recipients) == 0:
		t.Error("no recipients")
	case c.ttl < 0 || c.ttl > 720*time.Hour:
		t.Errorf("TTL %s", c.ttl)
	}
	// Read again by another parser: what must not be delivered is not there, in any spelling.
	var seen any
	if err := json.Unmarshal(c.Activity, &seen); err != nil {
		t.Fatal(err)
	}
	if concealed(seen) {
		t.Errorf("bto or bcc in %s", c.Activity)
	}
	checkOrder(t, &c.facts, c.Activity)
	checkRead(t, c, body)
	for _, r := range c.Recipients {
		for _, h := range r.Headers {
			if bytes.ContainsAny([]byte(h.Name+h.Value), "\r\n\x00") || reserved[h.Name] {
				t.Errorf("header %+v", h)
			}
		}
	}
}

// isObject reports whether encoding/json reads a text as an object.
func isObject(text []byte) bool {
	var members map[string]json.RawMessage
	return json.Unmarshal(text, &members) == nil && members != nil
}

// plainCall is the call as encoding/json reads it.
type plainCall struct {
	Activity    any               `json:"activity"`
	KeyID       string            `json:"key_id"`
	Key         any               `json:"key"`
	Inboxes     []string          `json:"inboxes"`
	Recipients  []*plainRecipient `json:"recipients"`
	Priority    string            `json:"priority"`
	OrderingKey string            `json:"ordering_key"`
	ExpiresIn   string            `json:"expires_in"`
	Final       []int             `json:"final_statuses"`
}

type plainRecipient struct {
	ID          string            `json:"id"`
	IDs         []string          `json:"ids"`
	Inbox       string            `json:"inbox"`
	SharedInbox string            `json:"shared_inbox"`
	Headers     map[string]string `json:"headers"`
}

// checkRead checks that encoding/json reads the same out of a call.
func checkRead(t *testing.T, c *activityCall, body []byte) {
	var want plainCall
	if err := json.Unmarshal(body, &want); err != nil {
		t.Fatal(err)
	}
	slices.Sort(want.Final)
	want.Final = slices.Compact(want.Final)
	want.Activity = nil // compared elsewhere, byte by byte
	want.Key = nil
	for _, r := range want.Recipients {
		sent := r.Headers
		r.Headers = map[string]string{}
		for name, value := range sent {
			r.Headers[textproto.CanonicalMIMEHeaderKey(name)] = textproto.TrimString(value)
		}
	}
	got := plainCall{
		KeyID: c.KeyID, Inboxes: c.Inboxes, Priority: c.Priority, OrderingKey: c.OrderingKey, ExpiresIn: c.ExpiresIn, Final: c.Final,
	}
	for _, r := range c.Recipients {
		plain := &plainRecipient{ID: r.ID, IDs: r.IDs, Inbox: r.Inbox, SharedInbox: r.SharedInbox, Headers: map[string]string{}}
		for _, h := range r.Headers {
			plain.Headers[h.Name] = h.Value
		}
		got.Recipients = append(got.Recipients, plain)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("encoding/json reads another call:\n%s", diff)
	}
}

// isTextOf reports whether an activity is the text of the string that a call has for it.
func isTextOf(activity, body []byte) bool {
	var call struct{ Activity any }
	return json.Unmarshal(body, &call) == nil && call.Activity == string(activity)
}

// checkOrder checks what the activity's order depends on, and that this does not change where another one carries it.
func checkOrder(t *testing.T, f *facts, activity []byte) {
	key, refers := f.orderingKey()
	if key == "" || len(key) > maxText || refers != "" && refers != key {
		t.Errorf("ordering key %q, refers to %q", key, refers)
	}
	if role, object := f.effect(); len(object) > maxText || role != queue.Other && object == "" && (role != queue.Restores || refers == "") {
		t.Errorf("role %d of %q", role, object)
	}
	if f.actor == "" || f.object == "" || bytes.Count(activity, []byte("object")) >= maxWraps {
		return
	}
	for _, kind := range []string{"Undo", "Accept", "Announce"} {
		var outer facts
		text := fmt.Appendf(nil, `{"id":"outer","actor":"outer","type":%q,"object":%s}`, kind, activity)
		if err := newParser("", text).facts(&outer); err != nil {
			t.Fatal(err)
		}
		if outerKey, outerRefers := outer.orderingKey(); outerKey != key || outerRefers != refers {
			t.Errorf("%s: ordering key %q, refers to %q, want %q and %q", kind, outerKey, outerRefers, key, refers)
		}
	}
}

// concealed reports whether a value holds a bto or bcc that is not empty, outside of contexts and language maps and of
// what any Announce carries.
func concealed(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			switch {
			case name == "@context", name == "object" && strings.Contains(fmt.Sprint(v["type"]), "Announce"):
			case name == "bto", name == "bcc":
				if names(inner) {
					return true
				}
			case concealed(inner):
				texts, isMap := inner.(map[string]any)
				if !isMap || !slices.Contains([]string{"contentMap", "nameMap", "summaryMap"}, name) || slices.ContainsFunc(slices.Collect(maps.Values(texts)), concealed) {
					return true
				}
			}
		}
	case []any:
		return slices.ContainsFunc(v, concealed)
	}
	return false
}

// names reports whether a value of bto or bcc names somebody.
func names(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case string:
		return v != ""
	case map[string]any:
		return len(v) > 0
	case []any:
		return slices.ContainsFunc(v, names)
	}
	return true
}

// FuzzParseKeyCall: a key call never shows anything of the key.
func FuzzParseKeyCall(f *testing.F) {
	f.Add([]byte(keyExample))
	f.Fuzz(func(t *testing.T, body []byte) {
		k, err := parseKeyCall(body)
		if err == nil && (*k.KeyID == "" || (len(k.PEM.Value) <= 2) == (len(k.JWK.Value) == 0)) {
			t.Errorf("got %q, %d bytes of PEM and %d of JWK", *k.KeyID, len(k.PEM.Value), len(k.JWK.Value))
		}
		k.wipe()
	})
}

// FuzzAudience holds that each inbox of a call that may be delivered to becomes one delivery, whichever way and however
// often it is named, that the actor's own becomes none, and that each of the others is rejected once.
func FuzzAudience(f *testing.F) {
	const alice, bob = "https://app.example/users/alice", "https://two.example/users/bob"
	f.Add("https://one.example/inbox\nhttps://ONE.example:443/inbox\nhttp://127.0.0.1/\n", alice+" https://app.example/inbox\n"+bob+" https://two.example/i https://two.example/inbox", alice)
	f.Add("https://app.example/inbox\nftp://x\nftp://x", bob+" https://app.example/inbox\n"+alice+" HTTPS://app.example/inbox", alice)
	f.Add("", " https://one.example/%7Ea  X-A: 1\n https://one.example/~a", "")
	s := newRig(f).server
	f.Fuzz(func(t *testing.T, inboxes, recipients, actor string) {
		c := &activityCall{facts: facts{actor: actor}, Inboxes: strings.Split(inboxes, "\n")}
		for line := range strings.SplitSeq(recipients, "\n") {
			parts := append(strings.Split(line, " "), "", "", "")
			r := recipient{ID: parts[0], Inbox: parts[1], SharedInbox: parts[2]}
			if name, value, ok := strings.Cut(parts[3], ":"); ok {
				r.Headers = headers{{Name: name, Value: value}}
			}
			c.Recipients = append(c.Recipients, r)
		}
		wanted, refused := plainAudience(s, c)
		a := s.audienceOf(c)
		got := map[string]bool{}
		for _, d := range a.deliveries {
			if got[d.Inbox] {
				t.Errorf("%s gets two deliveries", d.Inbox)
			}
			got[d.Inbox] = true
			if inbox, refusal := s.parseInbox(d.Inbox); refusal != nil || inbox.URL != d.Inbox || inbox.Host != d.Host {
				t.Errorf("delivery to %q of host %q: %v", d.Inbox, d.Host, refusal)
			}
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("other inboxes are delivered to than should:\n%s", diff)
		}
		if n := len(a.rejected) + a.more; n != len(refused) || len(a.rejected) > maxRejections || len(a.rejectedAt) != len(a.rejected) {
			t.Errorf("%d of %d rejections are listed, %d have a location, want %d in all", len(a.rejected), n, len(a.rejectedAt), len(refused))
		}
	})
}

// plainAudience returns the URLs that a call delivers to and the inboxes that it must reject, as the interface says it.
func plainAudience(s *server, c *activityCall) (wanted, refused map[string]bool) {
	wanted, refused = map[string]bool{}, map[string]bool{}
	own := map[string]bool{}
	add := func(raw string) {
		if inbox, refusal := s.parseInbox(raw); refusal != nil {
			refused[raw] = true
		} else {
			wanted[inbox.URL] = true
		}
	}
	for _, r := range c.Recipients {
		switch {
		case c.facts.actor != "" && r.ID == c.facts.actor:
			if inbox, refusal := s.parseInbox(r.Inbox); refusal == nil {
				own[inbox.URL] = true
			}
		case r.SharedInbox != "":
			add(r.SharedInbox)
		default:
			add(r.Inbox)
		}
	}
	for _, raw := range c.Inboxes {
		if inbox, refusal := s.parseInbox(raw); refusal != nil || !own[inbox.URL] {
			add(raw)
		}
	}
	return wanted, refused
}

func (s *server) parseInbox(raw string) (netguard.Inbox, *netguard.Refusal) {
	return netguard.ParseInbox(raw, s.AllowHTTP, s.Policy)
}
