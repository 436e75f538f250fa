package redisq

import (
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

func TestTargets(t *testing.T) {
	for _, r := range []queue.Recipient{
		{Inbox: "https://a.example/inbox", Host: "a.example"},
		{Inbox: "https://a.example:8443/users/bob/inbox?x=/y", Host: "a.example:8443"},
		{Inbox: "https://[2001:db8::1]/inbox", Host: "[2001:db8::1]"},
		{Inbox: "http://a.example/inbox", Host: "a.example"},
		{Inbox: "https://a.example", Host: "a.example"},
		{Inbox: "https://a.example.org/inbox", Host: "a.example"},
		{Inbox: "https://a.example?inbox", Host: "a.example"},
	} {
		host, inbox := splitInbox(r.Host + target(r))
		if host != r.Host || inbox != r.Inbox {
			t.Errorf("%+v is read as %s, %s", r, host, inbox)
		}
		if host, inbox := splitInbox(r.Host + "\n" + r.Inbox); host != r.Host || inbox != r.Inbox {
			t.Errorf("%+v, stored whole, is read as %s, %s", r, host, inbox)
		}
	}
	if got := target(queue.Recipient{Inbox: "http://a.example:8080/inbox", Host: "a.example:8080"}); got != "\n/inbox" {
		t.Errorf("an inbox without TLS is stored as %q", got)
	}
}

func TestDeliveryIDs(t *testing.T) {
	s := &Store{conn: &conn{}}
	for range 3 {
		s.parts = append(s.parts, &partition{conn: s.conn})
		s.parts[len(s.parts)-1].N = len(s.parts) - 1
	}
	act := uuid.Must(uuid.NewV7())
	seen := map[string]bool{}
	for _, p := range s.parts {
		for ordinal := range int64(5) {
			id := p.deliveryID(act.String(), ordinal)
			if seen[id] {
				t.Errorf("%s is the ID of two deliveries", id)
			}
			seen[id] = true
			got, n, ok := p.splitID(id)
			if !ok || got != act || n != ordinal {
				t.Errorf("%s is read as %s, %d, %t", id, got, n, ok)
			}
			if _, _, ok := s.parts[(p.N+1)%3].splitID(id); ok {
				t.Errorf("%s is taken for one of another partition", id)
			}
		}
	}
	for _, bad := range []string{"", "x.1", act.String(), act.String() + ".", act.String() + ".-1", act.String() + ".99999999999"} {
		if _, _, ok := s.parts[0].splitID(bad); ok {
			t.Errorf("%q is taken for an ID", bad)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newCache[int](100)
	for i := range 20 {
		c.put(fmt.Sprint(i), 10, i)
		c.get("0") // so that it stays
	}
	has := func(name string, want int) bool {
		got, found := c.get(name)
		return found && got == want
	}
	if !has("0", 0) || !has("19", 19) || has("5", 5) || c.size > 100 || len(c.elements) != 10 {
		t.Errorf("of 20 things %d bytes are kept: %v", c.size, c.elements)
	}
	c.put("large", 1000, -1)
	if !has("large", -1) || len(c.elements) != 1 {
		t.Errorf("a large one is kept with %d others", len(c.elements)-1)
	}
}
