package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postrider/postrider/e2e/harness"
)

// TestHealthcheck checks that the exit code of the command says whether the node of its settings can work, and that it
// writes the node's answer.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	status, answer := http.StatusOK, `{"status":"ok"}`
	asked := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.Path
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
	}))
	defer server.Close()
	address := server.Listener.Addr().String()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}

	for _, listen := range []string{address, "0.0.0.0:" + port, ":" + port, "[::]:" + port} {
		code, stdout, stderr := harness.RunOnce(t, []string{"POSTRIDER_LISTEN=" + listen}, "healthcheck")
		if code != 0 || stdout != answer+"\n" || stderr != "" || asked != "GET /readyz" {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q, asked %q", listen, code, stdout, stderr, asked)
		}
	}

	status, answer = http.StatusServiceUnavailable, `{"detail":"the store is away"}`
	code, stdout, stderr := harness.RunOnce(t, nil, "healthcheck", "--listen", address)
	if code != 1 || !strings.Contains(stdout, "the store is away") || !strings.Contains(stderr, "503") {
		t.Errorf("not ready: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}

	server.Close()
	code, stdout, stderr = harness.RunOnce(t, nil, "healthcheck", "--listen", address)
	if code != 1 || stdout != "" || !strings.Contains(stderr, "refused") {
		t.Errorf("nobody there: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

// TestHealthcheckOfNode checks a real node.
func TestHealthcheckOfNode(t *testing.T) {
	t.Parallel()
	node := startNode(t)
	harness.Eventually(t, "the node is healthy", func() bool {
		code, _, _ := harness.RunOnce(t, nil, "healthcheck", "--listen", node.Listen)
		return code == 0
	})
	node.Stop()
	if code, stdout, stderr := harness.RunOnce(t, nil, "healthcheck", "--listen", node.Listen); code != 1 {
		t.Errorf("a stopped node: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}
