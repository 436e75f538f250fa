package typescript

import (
	"net"
	"strings"
	"testing"

	"github.com/postrider/postrider/e2e/harness"
)

// TestExample runs two of the example app, as the demo of docker-compose.yml does: bob follows alice, and gets her notes
// through the node.
func TestExample(t *testing.T) {
	t.Parallel()
	build(t)
	n := harness.NewNode(t, "--api-tokens", "app:a-token-of-the-app,other:another-token-of-it")
	n.Token = "a-token-of-the-app"
	n.Start()
	alice, bob := freeAddress(t, "127.0.0.4"), freeAddress(t, "127.0.0.5")
	startExample(t, n, "ACCOUNT=alice", "ORIGIN=http://"+alice)
	reader := startExample(t, n, "ACCOUNT=bob", "ORIGIN=http://"+bob, "FOLLOW=http://"+alice+"/users/alice")
	for _, want := range []string{"users/alice accepts bob", "users/alice writes: note"} {
		for !strings.Contains(reader.next(), want) {
		}
	}
	for _, host := range []string{alice, bob} { // the Follow and the notes
		var h struct {
			LastSuccessAt string `json:"last_success_at"`
		}
		harness.Eventually(t, "the node has delivered to "+host, func() bool {
			n.Get("/v1/hosts/"+host, &h)
			return h.LastSuccessAt != ""
		})
	}
}

func startExample(t *testing.T, n *harness.Node, environ ...string) *script {
	t.Helper()
	environ = append(environ, "EVERY=0.2", "POSTRIDER_URL="+n.URL(""), "POSTRIDER_API_TOKENS="+n.Args[1])
	return startScript(t, environ, "--import", "./node20.mjs", "../example/app.js")
}

// freeAddress returns an address with a port that is free now.
func freeAddress(t *testing.T, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
