package embedded

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/queue"
)

// says submits an activity about the note to inboxes of a host. Its text is its body and, with the host, its URI.
func says(s *Store, text string, role queue.Role, inboxes ...string) *enqueue {
	e := noteWith(s, role, queue.Normal, text)
	e.sub.URI, e.full.URI = text, text
	e.sub.Recipients = nil
	for _, inbox := range inboxes {
		e.sub.Recipients = append(e.sub.Recipients, queue.Recipient{Inbox: "https://a.example/" + inbox, Host: "a.example"})
	}
	return e
}

// acceptedFor are the inboxes that a submission was accepted for.
func (e *enqueue) acceptedFor() (inboxes []string) {
	for _, r := range e.accepted {
		inboxes = append(inboxes, r.Inbox[len("https://a.example/"):])
	}
	return inboxes
}

// Submissions that share a transaction see each other, whether or not something was there before.
func TestTailsTogether(t *testing.T) {
	type call struct {
		text    string
		inboxes []string
		want    []string // those accepted
	}
	of := func(inboxes ...string) []string { return inboxes }
	calls := []call{
		{"follow", of("1"), of("1")},
		{"follow", of("1"), nil},
		{"undo", of("1"), of("1")},
		{"undo", of("1"), nil},
		{"follow", of("1", "2"), of("1", "2")},
		{"follow", of("2", "3"), of("3")},
		{"undo", of("3"), of("3")},
		{"follow", of("1", "2", "3"), of("3")},
		{"follow", of("4"), of("4")},
		{"undo", of("1", "2", "3", "4"), of("1", "2", "3", "4")},
		{"undo", of("5", "4"), of("5")},
	}
	// They are put into transactions in many ways: of so many calls each.
	for size := range len(calls) {
		s := open(t, t.TempDir())
		var all []*enqueue
		var steps []step
		for _, c := range calls {
			e := says(s, c.text, queue.Other, c.inboxes...)
			all, steps = append(all, e), append(steps, e)
		}
		for some := range slices.Chunk(steps, size+1) {
			together(t, s, nothing, some...)
		}
		for i, c := range calls {
			if diff := cmp.Diff(c.want, all[i].acceptedFor()); diff != "" {
				t.Errorf("%d in a transaction: call %d, %s to %v was accepted for (-want +got):\n%s", size+1, i, c.text, c.inboxes, diff)
			}
			if n := len(c.inboxes) - len(c.want); all[i].receipt.Duplicates != n {
				t.Errorf("%d in a transaction: call %d has %d duplicates, want %d", size+1, i, all[i].receipt.Duplicates, n)
			}
		}
		bodyRows(t, s)
	}
}

// An activity that refers to one of the same transaction has the ordering key of that one.
func TestRefersTogether(t *testing.T) {
	s := open(t, t.TempDir())
	follow, undo := says(s, "follow", queue.Other, "1"), says(s, "undo", queue.Other, "1")
	follow.sub.OrderingKey = "relation"
	undo.sub.Refers, undo.sub.OrderingKey = "follow", "follow"
	newer, accept := says(s, "follow", queue.Other, "2"), says(s, "accept", queue.Other, "1")
	newer.sub.OrderingKey = "newer"
	accept.sub.Refers, accept.sub.OrderingKey = "follow", "follow"
	together(t, s, nothing, follow, undo, newer, accept)
	if got := []string{undo.full.OrderingKey, accept.full.OrderingKey}; got[0] != "relation" || got[1] != "newer" {
		t.Errorf("ordering keys %q, want relation and newer", got)
	}
}

// A Delete and its Undo that share a transaction leave nothing, and one that comes after an Undo leaves its tombstone.
func TestTombstonesTogether(t *testing.T) {
	for name, tt := range map[string]struct {
		texts []string
		want  int
	}{
		"deleted and undone":               {[]string{"delete", "undo"}, 0},
		"deleted twice and undone":         {[]string{"delete", "delete 2", "undo"}, 0},
		"undone by its ID":                 {[]string{"delete", "undo delete"}, 0},
		"the first of two is undone":       {[]string{"delete", "delete 2", "undo delete"}, 1},
		"deleted, undone and deleted":      {[]string{"delete", "undo", "delete 2"}, 1},
		"undone by its ID and deleted":     {[]string{"delete", "undo delete", "delete 2", "undo delete"}, 1},
		"undone twice, the second too":     {[]string{"delete", "undo delete", "delete 2", "undo delete 2"}, 0},
		"deleted with the same ID, undone": {[]string{"delete", "delete", "undo delete"}, 0},
	} {
		for _, shared := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				s := open(t, dir)
				var steps []step
				for i, text := range tt.texts {
					e := says(s, text, queue.Deletes, "1")
					if text[0] == 'u' {
						e.sub.Role = queue.Restores
						if refers := text[len("undo"):]; refers != "" {
							e.sub.Object, e.sub.Refers = "", refers[1:]
						}
					}
					if !shared && i > 0 {
						together(t, s, nothing, e)
						continue
					}
					steps = append(steps, e)
					if !shared {
						together(t, s, nothing, e)
					}
				}
				if shared {
					together(t, s, nothing, steps...)
				}
				check := func() {
					if n := len(s.index.tombstones.objects); n != tt.want || len(s.index.tombstones.deletions) != n {
						t.Errorf("%d tombstones, want %d", n, tt.want)
					}
				}
				check()
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(t, dir)
				check()
			})
		}
	}
}
