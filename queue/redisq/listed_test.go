package redisq

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestListingsAreStored checks that what an activity's list has of a delivery is read as it was written.
func TestListingsAreStored(t *testing.T) {
	for _, ids := range [][]string{
		nil, {"https://a.example/users/ann"}, {"https://b.example/ann", "https://a.example", "https://a.example/"},
		{"/ann", "\x00ann", "", "ann\n!"}, {strings.Repeat("a", 300)},
	} {
		for _, past := range []string{"", "past \x00 tense"} {
			to, gotPast, packed := splitListing(listing("a.example/inbox", past, packIDs("a.example", ids)))
			if diff := cmp.Diff(ids, unpackIDs("a.example", packed)); diff != "" || to != "a.example/inbox" || gotPast != past {
				t.Errorf("%q are read as to %q, past %q (-want +got):\n%s", ids, to, gotPast, diff)
			}
		}
	}
	for _, damaged := range []string{"\x05abc", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\x80"} {
		if ids := unpackIDs("a.example", damaged); ids != nil {
			t.Errorf("%q is read as %q", damaged, ids)
		}
	}
}
