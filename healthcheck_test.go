package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestHealthcheck holds that the command tells by its exit code whether the node of its settings can work, and says what
// the node said.
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
		code, stdout, stderr := runOnce(t, []string{"POSTRIDER_LISTEN=" + listen}, "healthcheck")
		if code != 0 || stdout != answer+"\n" || stderr != "" || asked != "GET /readyz" {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q, asked %q", listen, code, stdout, stderr, asked)
		}
	}

	status, answer = http.StatusServiceUnavailable, `{"detail":"the store is away"}`
	code, stdout, stderr := runOnce(t, nil, "healthcheck", "--listen", address)
	if code != 1 || !strings.Contains(stdout, "the store is away") || !strings.Contains(stderr, "503") {
		t.Errorf("not ready: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}

	server.Close()
	code, stdout, stderr = runOnce(t, nil, "healthcheck", "--listen", address)
	if code != 1 || stdout != "" || !strings.Contains(stderr, "refused") {
		t.Errorf("nobody there: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

// TestHealthcheckOfNode asks a real node.
func TestHealthcheckOfNode(t *testing.T) {
	t.Parallel()
	node := startNode(t)
	eventually(t, "the node is healthy", func() bool {
		code, _, _ := runOnce(t, nil, "healthcheck", "--listen", node.listen)
		return code == 0
	})
	node.stop()
	if code, stdout, stderr := runOnce(t, nil, "healthcheck", "--listen", node.listen); code != 1 {
		t.Errorf("a stopped node: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

func TestDialable(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:8080":     "127.0.0.1:8080",
		"192.0.2.1:8080":     "192.0.2.1:8080",
		"[2001:db8::1]:8080": "[2001:db8::1]:8080",
		"localhost:8080":     "localhost:8080",
		":8080":              "localhost:8080",
		"0.0.0.0:8080":       "127.0.0.1:8080",
		"[::ffff:0.0.0.0]:1": "127.0.0.1:1",
		"[::]:8080":          "localhost:8080",
		"[0:0::0]:8080":      "localhost:8080",
	} {
		if got := dialable(listen); got != want {
			t.Errorf("%s is dialled at %s, want %s", listen, got, want)
		}
	}
}
