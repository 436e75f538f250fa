package interop

import (
	"bufio"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/postrider/postrider/e2e/harness"
)

// javascript is the process of the JavaScript verifiers.
type javascript struct {
	ports map[string]int // by the protocol of the inbox
}

// startJavascript starts it with the keys that actors publish; it ends with the test.
func startJavascript(t *testing.T, published map[string]crypto.PublicKey) *javascript {
	t.Helper()
	harness.InstallPackages(t, "testdata")
	pems := make(map[string]string)
	for id, public := range published {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		pems[id] = encode("PUBLIC KEY", der)
	}
	argument, err := json.Marshal(pems)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), "node", "verifiers.mjs", string(argument))
	cmd.Dir, cmd.Stderr = "testdata", os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close() // ends it
		if err := cmd.Wait(); err != nil {
			t.Errorf("verifiers.mjs ended: %v", err)
		}
	})
	j := &javascript{}
	if err := json.NewDecoder(stdout).Decode(&j.ports); err != nil {
		t.Fatalf("verifiers.mjs said no ports: %v", err)
	}
	return j
}

// ask sends a request, byte for byte, and returns the verdicts.
func (j *javascript) ask(ctx context.Context, r *request) (verdicts map[string]string, err error) {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(j.ports[r.protocol]))
	conn, err := (&net.Dialer{Timeout: harness.Patience}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(harness.Patience))
	if _, err := io.WriteString(conn, r.bytes()); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("verifiers.mjs answered %s", resp.Status)
	}
	return verdicts, json.NewDecoder(resp.Body).Decode(&verdicts)
}
