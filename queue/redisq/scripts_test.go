package redisq

import (
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/testredis"
)

// TestTryCommands checks that nothing stays of what is tried when a store is opened, and that one which could not run is
// refused.
func TestTryCommands(t *testing.T) {
	server := testredis.Start(t)
	openStore(t, Options{URL: server.URL(), Prefix: "p"})
	if n := server.Must("DBSIZE"); n != "1" {
		t.Errorf("an empty store has %s keys, want one", n)
	}
	server.Must("ACL", "SETUSER", "some", "on", ">secret", "~*", "&*", "+@all", "-linsert")
	url := strings.Replace(server.URL(), "://", "://some:secret@", 1)
	if _, err := Open(t.Context(), Options{URL: url, Prefix: "q"}); err == nil || !strings.Contains(err.Error(), "LINSERT: ") {
		t.Errorf("a user that may not LINSERT was let in: %v", err)
	}
}
