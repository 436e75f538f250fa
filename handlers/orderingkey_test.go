package handlers

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"github.com/postrider/postrider/queue"
)

// parties spells out the names in the table below. FIRST is another activity.
var parties = strings.NewReplacer(
	"ALICE", "https://app.example/users/alice", "BOB", "https://remote.example/users/bob",
	"GROUP", "https://app.example/groups/1", "POST", "https://app.example/posts/1",
	"FIRST", "https://app.example/activities/first",
)

// families are the kinds of activities that the software of the fediverse sends, with all that their order depends on.
// Activities about the same object have the same key, however and by whichever actor they are wrapped.
var families = []struct {
	name, activity string
	key, refers    string
	role           queue.Role
	object         string
}{
	// Posts.
	{"Mastodon: Create", `{"id":"a","type":"Create","actor":"ALICE","object":{"id":"POST","type":"Note","attributedTo":"ALICE"}}`, "POST", "", queue.Makes, "POST"},
	{"Mastodon: Update", `{"id":"a","type":"Update","actor":"ALICE","object":{"id":"POST","type":"Note"}}`, "POST", "", queue.Other, "POST"},
	{"Mastodon: Delete", `{"id":"a","type":"Delete","actor":"ALICE","object":{"id":"POST","type":"Tombstone","atomUri":"POST"}}`, "POST", "", queue.Deletes, "POST"},
	{"Mastodon: vote", `{"id":"a","type":"Create","actor":"ALICE","object":{"id":"ALICE#votes/1","type":"Note","name":"yes"}}`, "ALICE#votes/1", "", queue.Makes, "ALICE#votes/1"},
	{"Pleroma: Delete", `{"actor":"ALICE","id":"a","object":"POST","type":"Delete"}`, "POST", "", queue.Deletes, "POST"},
	{"Pleroma: Create of a poll with an actor", `{"actor":"ALICE","id":"a","object":{"actor":"ALICE","id":"POST","type":"Question"},"type":"Create"}`, "POST", "", queue.Makes, "POST"},
	{"Mobilizon: Create of an event with an actor", `{"id":"a","type":"Create","actor":"ALICE","object":{"id":"POST","type":"Event","actor":"ALICE","attributedTo":"GROUP"}}`, "POST", "", queue.Makes, "POST"},
	{"BookWyrm: Delete with its Create's id", `{"id":"POST/activity","type":"Delete","actor":"ALICE","object":{"id":"POST","type":"Tombstone"}}`, "POST", "", queue.Deletes, "POST"},
	{"Mbin: Update with an object in its object", `{"id":"a","type":"Update","actor":"ALICE","object":{"id":"POST","type":"Page","object":{"updated":"now"}}}`, "POST", "", queue.Other, "POST"},
	{"PeerTube: Create by two", `{"id":"a","type":"Create","actor":"ALICE","object":{"id":"POST","type":"Video","attributedTo":[{"type":"Person","id":"ALICE"},{"type":"Group","id":"GROUP"}]}}`, "POST", "", queue.Makes, "POST"},
	{"Kroeg: Create with its actor inside", `{"object":{"id":"POST","type":"Note"},"actor":{"id":"ALICE","type":"Person"},"type":"Create","id":"a"}`, "POST", "", queue.Makes, "POST"},
	{"Prismo: Create by a list of one", `{"id":"a","type":"Create","actor":[{"id":"ALICE","type":"Person"}],"object":{"id":"POST","type":"Article"}}`, "POST", "", queue.Makes, "POST"},

	// Accounts and collections.
	{"Mastodon: Update of an account", `{"id":"a","type":"Update","actor":"ALICE","object":{"id":"ALICE","type":"Person"}}`, "ALICE", "", queue.Other, "ALICE"},
	{"Mastodon: Delete of an account", `{"id":"a","type":"Delete","actor":"ALICE","object":{"id":"ALICE","type":"Person"}}`, "ALICE", "", queue.Deletes, "ALICE"},
	{"Lemmy: Delete of an account", `{"actor":"ALICE","object":"ALICE","type":"Delete","id":"a","removeData":true}`, "ALICE", "", queue.Deletes, "ALICE"},
	{"Mastodon: Move", `{"id":"a","type":"Move","actor":"ALICE","object":"ALICE","target":"BOB"}`, "ALICE", "", queue.Other, "ALICE"},
	{"Lemmy: Add of a pinned post", `{"actor":"ALICE","object":"POST","target":"GROUP/featured","type":"Add","id":"a"}`, "POST", "", queue.Other, "POST"},
	{"Lemmy: Remove of a pinned post", `{"actor":"ALICE","object":"POST","target":"GROUP/featured","type":"Remove","id":"a"}`, "POST", "", queue.Other, "POST"},
	{"Lemmy: Add of a moderator", `{"actor":"ALICE","object":"BOB","target":"GROUP/moderators","type":"Add","id":"a"}`, "BOB", "", queue.Other, "BOB"},

	// Follows.
	{"Mastodon: Follow", `{"id":"FIRST","type":"Follow","actor":"ALICE","object":"BOB"}`, "ALICE\nBOB", "", queue.Other, "BOB"},
	{"Hubzilla: Follow", `{"type":"Follow","id":"a","actor":{"id":"ALICE","name":"Alice"},"object":"BOB"}`, "ALICE\nBOB", "", queue.Other, "BOB"},
	{"Mastodon: Undo of a Follow", `{"id":"a","type":"Undo","actor":"ALICE","object":{"id":"FIRST","type":"Follow","actor":"ALICE","object":"BOB"}}`, "ALICE\nBOB", "", queue.Other, ""},
	{"Undo of a Follow without id", `{"id":"a","type":"Undo","actor":"ALICE","object":{"type":"Follow","actor":"ALICE","object":"BOB"}}`, "ALICE\nBOB", "", queue.Other, ""},
	{"Undo of a Follow without actor", `{"id":"a","type":"Undo","actor":"ALICE","object":{"id":"FIRST","type":"Follow","object":"BOB"}}`, "ALICE\nBOB", "", queue.Other, ""},
	{"Undo of a Follow with its object inside", `{"id":"a","type":"Undo","actor":"ALICE","object":[{"id":"FIRST","type":"Follow","actor":{"id":"ALICE"},"object":[{"id":"BOB"}]}]}`, "ALICE\nBOB", "", queue.Other, ""},
	{"Lemmy: Accept", `{"actor":"ALICE","object":{"actor":"BOB","object":"ALICE","type":"Follow","id":"FIRST"},"type":"Accept","id":"a"}`, "BOB\nALICE", "", queue.Other, ""},
	{"Mastodon: Reject", `{"id":"a","type":"Reject","actor":"ALICE","object":{"id":"FIRST","type":"Follow","actor":"BOB","object":"ALICE"}}`, "BOB\nALICE", "", queue.Other, ""},
	{"Mitra: Accept of an id", `{"type":"Accept","id":"a","actor":"ALICE","object":"FIRST"}`, "FIRST", "FIRST", queue.Other, ""},
	{"Reject of an id", `{"type":"Reject","id":"a","actor":"ALICE","object":{"id":"FIRST"}}`, "FIRST", "FIRST", queue.Other, ""},
	{"Accept of an id with a type", `{"type":"Accept","id":"a","actor":"ALICE","object":{"id":"FIRST","type":"Follow"}}`, "FIRST", "FIRST", queue.Other, ""},
	{"Accept of a Follow without actor", `{"type":"Accept","id":"a","actor":"ALICE","object":{"id":"FIRST","type":"Follow","object":"ALICE"}}`, "FIRST", "FIRST", queue.Other, ""},
	{"Undo of an Accept", `{"type":"Undo","id":"a","actor":"ALICE","object":{"id":"b","type":"Accept","actor":"ALICE","object":{"id":"FIRST","type":"Follow","actor":"BOB","object":"ALICE"}}}`, "BOB\nALICE", "", queue.Other, ""},
	{"Undo of an Accept of an id", `{"type":"Undo","id":"a","actor":"ALICE","object":{"id":"b","type":"Accept","actor":"ALICE","object":"FIRST"}}`, "FIRST", "FIRST", queue.Other, ""},
	{"Mobilizon: Join", `{"type":"Join","id":"FIRST","actor":"ALICE","object":"POST"}`, "ALICE\nPOST", "", queue.Other, "POST"},
	{"Mobilizon: Leave", `{"type":"Leave","id":"a","actor":"ALICE","object":"POST"}`, "ALICE\nPOST", "", queue.Other, "POST"},
	{"TentativeAccept of a Join", `{"type":"TentativeAccept","id":"a","actor":"BOB","object":{"type":"Join","id":"FIRST","actor":"ALICE","object":"POST"}}`, "ALICE\nPOST", "", queue.Other, ""},
	{"TentativeReject of an id", `{"type":"TentativeReject","id":"a","actor":"BOB","object":"FIRST"}`, "FIRST", "FIRST", queue.Other, ""},
	{"Mastodon: QuoteRequest", `{"type":"QuoteRequest","id":"FIRST","actor":"ALICE","object":"POST","instrument":{"id":"b","type":"Note"}}`, "ALICE\nPOST", "", queue.Other, "POST"},
	{"Mastodon: Accept of a QuoteRequest", `{"type":"Accept","id":"a","actor":"BOB","object":{"type":"QuoteRequest","id":"FIRST","actor":"ALICE","object":"POST","instrument":"b"}}`, "ALICE\nPOST", "", queue.Other, ""},

	// Reactions.
	{"Mastodon: Like", `{"id":"FIRST","type":"Like","actor":"ALICE","object":"POST"}`, "ALICE\nPOST", "", queue.Other, "POST"},
	{"Mastodon: Undo of a Like", `{"id":"a","type":"Undo","actor":"ALICE","object":{"id":"FIRST","type":"Like","actor":"ALICE","object":"POST"}}`, "ALICE\nPOST", "", queue.Other, ""},
	{"Undo of an id", `{"id":"a","type":"Undo","actor":"ALICE","object":"FIRST"}`, "FIRST", "FIRST", queue.Restores, ""},
	{"Misskey: Like with a reaction", `{"type":"Like","id":"a","actor":"ALICE","object":"POST","content":"x","_misskey_reaction":"x"}`, "ALICE\nPOST", "", queue.Other, "POST"},
	{"Pleroma: EmojiReact", `{"actor":"ALICE","id":"a","object":"POST","type":"EmojiReact","content":"x"}`, "ALICE\nPOST", "", queue.Other, "POST"},
	{"Friendica: Undo of a Dislike", `{"id":"a","type":"Undo","actor":"ALICE","object":{"id":"FIRST","type":"Dislike","actor":"ALICE","object":"POST"}}`, "ALICE\nPOST", "", queue.Other, ""},
	{"Mastodon: Announce", `{"id":"FIRST","type":"Announce","actor":"ALICE","object":"POST"}`, "ALICE\nPOST", "", queue.Other, "POST"},
	{"Mastodon: Announce of an own post", `{"id":"FIRST","type":"Announce","actor":"ALICE","object":{"id":"POST","type":"Note","attributedTo":"ALICE"}}`, "ALICE\nPOST", "", queue.Other, "POST"},
	{"Kroeg: Announce with all inside", `{"id":"a","type":"Announce","actor":{"id":"ALICE"},"object":{"id":"POST","type":"Note","object":{}}}`, "ALICE\nPOST", "", queue.Other, "POST"},
	{"Mastodon: Undo of an Announce", `{"id":"a","type":"Undo","actor":"ALICE","object":{"id":"FIRST","type":"Announce","actor":"ALICE","object":"POST"}}`, "ALICE\nPOST", "", queue.Other, ""},
	{"Lemmy: Block", `{"actor":"ALICE","object":"BOB","target":"GROUP","type":"Block","id":"a"}`, "ALICE\nBOB", "", queue.Other, "BOB"},
	{"Mastodon: Undo of a Block", `{"id":"a","type":"Undo","actor":"ALICE","object":{"id":"FIRST","type":"Block","actor":"ALICE","object":"BOB"}}`, "ALICE\nBOB", "", queue.Other, ""},
	{"Mastodon: Flag", `{"id":"a","type":"Flag","actor":"ALICE","object":["BOB","POST"]}`, "ALICE\nBOB", "", queue.Other, ""},
	{"Mbin: Flag", `{"id":"a","type":"Flag","actor":"ALICE","object":"POST"}`, "ALICE\nPOST", "", queue.Other, "POST"},
	{"Lemmy: Lock", `{"id":"a","type":"Lock","actor":"ALICE","object":"POST"}`, "ALICE\nPOST", "", queue.Other, "POST"},
	{"Lemmy: Undo of a Lock", `{"id":"a","actor":"BOB","type":"Undo","object":{"id":"FIRST","actor":"ALICE","object":"POST","type":"Lock"}}`, "ALICE\nPOST", "", queue.Other, ""},
	{"Lemmy: Resolve", `{"id":"a","type":"Resolve","actor":"ALICE","object":{"id":"FIRST","type":"Flag","actor":"BOB","object":"POST"}}`, "ALICE\nFIRST", "", queue.Other, "FIRST"},

	// Deletes that are undone.
	{"Lemmy: Undo of a Delete", `{"actor":"ALICE","object":{"actor":"ALICE","object":"POST","type":"Delete","id":"FIRST"},"type":"Undo","id":"a"}`, "POST", "", queue.Restores, "POST"},
	{"Undo of a Delete with a Tombstone", `{"id":"a","type":"Undo","actor":"ALICE","object":{"id":"FIRST","type":["Delete"],"object":{"id":"POST","type":"Tombstone"}}}`, "POST", "", queue.Restores, "POST"},
	{"Undo of a Delete by its id", `{"id":"a","type":"Undo","actor":"ALICE","object":{"id":"FIRST","type":"Delete"}}`, "FIRST", "FIRST", queue.Restores, ""},
	{"Undo of a Delete of nothing known", `{"id":"a","type":"Undo","actor":"ALICE","object":{"id":"FIRST","type":"Delete","object":{"type":"Tombstone"}}}`, "FIRST", "FIRST", queue.Restores, ""},
	{"Undo of a Delete of two", `{"id":"a","type":"Undo","actor":"ALICE","object":{"id":"FIRST","type":"Delete","object":["POST","b"]}}`, "POST", "", queue.Other, ""},
	{"Undo of a Create", `{"id":"a","type":"Undo","actor":"ALICE","object":{"id":"FIRST","type":"Create","object":"POST"}}`, "POST", "", queue.Other, ""},

	// Announcements of groups.
	{"Lemmy: Announce of a Create", `{"actor":"GROUP","object":{"id":"FIRST","actor":"BOB","object":{"type":"Page","id":"POST","attributedTo":"BOB"},"type":"Create"},"type":"Announce","id":"a"}`, "POST", "", queue.Makes, "GROUP\nPOST"},
	{"PieFed: Announce of an Update", `{"id":"a","type":"Announce","actor":"GROUP","object":{"id":"FIRST","type":"Update","actor":"BOB","object":{"id":"POST","type":"Page"}}}`, "POST", "", queue.Other, "GROUP\nPOST"},
	{"Mbin: Announce of a Delete", `{"id":"a","type":"Announce","actor":"GROUP","object":{"id":"FIRST","type":"Delete","actor":"BOB","object":{"id":"POST","type":"Tombstone"}}}`, "POST", "", queue.Deletes, "GROUP\nPOST"},
	{"Mbin: Announce of the Delete of an account", `{"id":"a","type":"Announce","actor":"GROUP","object":{"id":"FIRST","type":"Delete","actor":"BOB","object":"BOB"}}`, "BOB", "", queue.Deletes, "GROUP\nBOB"},
	{"Lemmy: Announce of an Undo of a Delete", `{"actor":"GROUP","object":{"id":"b","actor":"BOB","object":{"id":"FIRST","actor":"BOB","object":"POST","type":"Delete"},"type":"Undo"},"type":"Announce","id":"a"}`, "POST", "", queue.Restores, "GROUP\nPOST"},
	{"Lemmy: Announce of a Like", `{"id":"a","type":"Announce","actor":"GROUP","object":{"id":"FIRST","type":"Like","actor":"BOB","object":"POST"}}`, "BOB\nPOST", "", queue.Other, "GROUP\nPOST"},
	{"Mbin: Announce of an Undo of a Like", `{"id":"a","type":"Announce","actor":"GROUP","object":{"id":"b","type":"Undo","actor":"BOB","object":{"id":"FIRST","type":"Like","actor":"BOB","object":"POST"}}}`, "BOB\nPOST", "", queue.Other, ""},
	{"Announce of an Undo of an id", `{"id":"a","type":"Announce","actor":"GROUP","object":{"id":"b","type":"Undo","actor":"BOB","object":"FIRST"}}`, "FIRST", "FIRST", queue.Other, ""},
	{"Mbin: Announce of a Block", `{"id":"a","type":"Announce","actor":"GROUP","object":{"id":"FIRST","type":"Block","actor":"ALICE","object":"BOB"}}`, "ALICE\nBOB", "", queue.Other, "GROUP\nBOB"},
	{"Mbin: Announce of an Add", `{"id":"a","type":"Announce","actor":"GROUP","object":{"id":"FIRST","type":"Add","actor":"ALICE","object":"POST","target":"GROUP/pinned"}}`, "POST", "", queue.Other, "GROUP\nPOST"},
	{"WordPress: Announce of an own Update", `{"type":"Announce","id":"a","actor":"GROUP","object":{"id":"FIRST","type":"Update","actor":"ALICE","object":{"id":"POST","type":"Article"}}}`, "POST", "", queue.Other, "GROUP\nPOST"},
	{"Announce of a Lock, a type of its own", `{"type":"Announce","id":"a","actor":"GROUP","object":{"id":"FIRST","type":"Lock","actor":"BOB","object":"POST"}}`, "BOB\nPOST", "", queue.Other, "GROUP\nPOST"},
	{"Mbin: Announce by a group of an id", `{"id":"a","type":"Announce","actor":"GROUP","object":"POST"}`, "GROUP\nPOST", "", queue.Other, "POST"},
	{"Announce of a Create by its id", `{"id":"a","type":"Announce","actor":"GROUP","object":{"id":"FIRST","type":"Create"}}`, "GROUP\nFIRST", "", queue.Other, "FIRST"},
	{"Undo of an Announce of a Create", `{"id":"a","type":"Undo","actor":"GROUP","object":{"id":"b","type":"Announce","actor":"GROUP","object":{"id":"FIRST","type":"Create","actor":"BOB","object":{"id":"POST"}}}}`, "POST", "", queue.Other, ""},
	{"Announce of a Delete without actor", `{"id":"a","type":"Announce","object":{"id":"FIRST","type":"Delete","actor":"BOB","object":"POST"}}`, "POST", "", queue.Other, ""},

	// Odd ones.
	{"several objects", `{"id":"a","type":"Create","actor":"ALICE","object":[{"id":"POST"},"b"]}`, "POST", "", queue.Other, ""},
	{"Delete of several", `{"id":"a","type":"Delete","actor":"ALICE","object":["POST","b"]}`, "POST", "", queue.Other, ""},
	{"a list of one in a list", `{"id":"a","type":["Delete"],"actor":"ALICE","object":[["POST"]]}`, "POST", "", queue.Deletes, "POST"},
	{"the first type counts", `{"id":"a","type":["Announce","Create"],"actor":"ALICE","object":"POST"}`, "ALICE\nPOST", "", queue.Other, "POST"},
	{"a type in small letters", `{"id":"a","type":"create","actor":"ALICE","object":"POST"}`, "ALICE\nPOST", "", queue.Other, "POST"},
	{"object without id", `{"id":"a","type":"Create","actor":"ALICE","object":{"type":"Note"}}`, "a", "", queue.Other, ""},
	{"object with a number as id", `{"id":"a","type":"Delete","actor":"ALICE","object":{"id":7,"x":[{}]}}`, "a", "", queue.Other, ""},
	{"object null", `{"id":"a","type":"Delete","actor":"ALICE","object":null}`, "a", "", queue.Other, ""},
	{"object empty", `{"id":"a","type":"Delete","actor":"ALICE","object":""}`, "a", "", queue.Other, ""},
	{"object a number", `{"id":"a","type":"Undo","actor":"ALICE","object":7}`, "a", "", queue.Other, ""},
	{"no object", `{"id":"a","type":"Undo","actor":"ALICE"}`, "a", "", queue.Other, ""},
	{"Like without actor", `{"id":"a","type":"Like","object":"POST"}`, "a", "", queue.Other, "POST"},
	{"Undo of an Accept without id of a Follow without id", `{"type":"Undo","id":"a","actor":"ALICE","object":{"type":"Accept","actor":"ALICE","object":{"type":"Follow","actor":"BOB","object":"ALICE"}}}`, "BOB\nALICE", "", queue.Other, ""},
	{"the last member of a name counts inside", `{"id":"a","type":"Undo","actor":"ALICE","object":{"id":"FIRST","type":"Delete","object":"POST","object":[]}}`, "FIRST", "FIRST", queue.Restores, ""},
	{"Undo of nothing known", `{"id":"a","type":"Undo","actor":"ALICE","object":{"type":"Like","object":{"type":"Note"}}}`, "a", "", queue.Other, ""},
}

func TestOrderingKey(t *testing.T) {
	g := newRig(t)
	for _, tt := range families {
		t.Run(tt.name, func(t *testing.T) {
			activity := `"activity":` + parties.Replace(tt.activity)
			for _, own := range []string{"", "mine"} {
				parts := []string{activity, aKey, anInbox}
				if own != "" {
					parts = append(parts, fmt.Sprintf(`"ordering_key":%q`, own))
				}
				_, sub := g.post(t, call(parts...))
				key := cmp.Or(own, parties.Replace(tt.key))
				refers := parties.Replace(tt.refers)
				object := parties.Replace(tt.object)
				if sub.OrderingKey != key || sub.Refers != refers {
					t.Errorf("got key %q, refers %q, want %q, %q", sub.OrderingKey, sub.Refers, key, refers)
				}
				if sub.Role != tt.role || sub.Object != object {
					t.Errorf("got role %d of %q, want %d of %q", sub.Role, sub.Object, tt.role, object)
				}
			}
		})
	}
}

// TestOrderingKeysDiffer holds that what is about different things never has one key, however it is spelt, and that no
// key is longer than one that the app may give.
func TestOrderingKeysDiffer(t *testing.T) {
	long := strings.Repeat("x", maxText)
	seen := map[string]string{}
	for _, ids := range [][]string{
		{"a"}, {"b"}, {"a b"}, {"a\nb"}, {"a\n"}, {"\na"}, {"\n"}, {"a\nb\nc"}, {long}, {long + "x"}, {long + "\nx"}, {"x" + long + "\n"},
		{"a", "b"}, {"a", "\nb"}, {"a\n", "b"}, {"a\nb", "c"}, {"a", "b\nc"}, {"ab", "c"}, {"a", "bc"}, {long, "x"}, {long, "xx"}, {"x", long},
		{"x" + long, "x"}, {`a", "b`}, {`a"`, `"b`}, {hashedKey("a", "\nb")}, {"a", hashedKey("b")},
	} {
		key := plainKey(ids[0])
		if len(ids) == 2 {
			key = pairKey(ids[0], ids[1])
		}
		if before, known := seen[key]; known || key == "" || len(key) > maxText {
			t.Errorf("%.20q and %s: %.20q of %d bytes", ids, before, key, len(key))
		}
		seen[key] = fmt.Sprintf("%.20q", ids)
	}
}

// TestRefersToNoActivity holds that nothing is looked for under an ID that no activity can have.
func TestRefersToNoActivity(t *testing.T) {
	for _, id := range []string{strings.Repeat("x", maxText+1), `a\nb`} {
		_, sub := newRig(t).post(t, call(`"activity":{"id":"a","type":"Undo","object":"`+id+`"}`, aKey, anInbox))
		if sub.Refers != "" || sub.Role != queue.Other || !strings.HasPrefix(sub.OrderingKey, "\nsha256:") {
			t.Errorf("key %q, refers %q, role %d", sub.OrderingKey, sub.Refers, sub.Role)
		}
	}
}

// TestWrapsAreBounded holds that activities inside each other are looked at only so deep, and are accepted beyond.
func TestWrapsAreBounded(t *testing.T) {
	for wraps, want := range map[int]string{maxWraps: "note", maxWraps + 1: "undo", 2000: "undo"} {
		activity := strings.Repeat(`{"id":"undo","type":"Undo","object":`, wraps) + `"note"` + strings.Repeat("}", wraps)
		if _, sub := newRig(t).post(t, call(`"activity":`+activity, aKey, anInbox)); sub.OrderingKey != want {
			t.Errorf("%d: got %q, want %q", wraps, sub.OrderingKey, want)
		}
	}
}
