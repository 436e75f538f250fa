package harness

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// Answer is the answer to a call.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Try calls the API. Headers are names and values alternately; a Content-Type among them wins.
func (n *Node) Try(method, path string, body io.Reader, headers ...string) (Answer, error) {
	req, err := http.NewRequestWithContext(n.T.Context(), method, n.URL(path), body)
	if err != nil {
		return Answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	if n.Token != "" {
		req.Header.Set("Authorization", "Bearer "+n.Token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := n.Client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return Answer{resp.StatusCode, resp.Header, string(text)}, err
}

// Call is Try for calls that must get an answer.
func (n *Node) Call(method, path, body string, headers ...string) Answer {
	n.T.Helper()
	a, err := n.Try(method, path, strings.NewReader(body), headers...)
	if err != nil {
		n.T.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// Get reads the answer of a path into v.
func (n *Node) Get(path string, v any) {
	n.T.Helper()
	n.Read(http.StatusOK, n.Call(http.MethodGet, path, ""), v)
}

// Read reads an answer, which must have the status, into v.
func (n *Node) Read(status int, a Answer, v any) {
	n.T.Helper()
	if a.Status != status {
		n.T.Fatalf("answered %d, want %d: %s", a.Status, status, a.Body)
	}
	if err := json.Unmarshal([]byte(a.Body), v); err != nil {
		n.T.Fatalf("%v in %s", err, a.Body)
	}
}

// PutKey gives the node a private key in PEM.
func (n *Node) PutKey(id, key string) {
	n.T.Helper()
	a := n.Call(http.MethodPut, "/v1/keys", JSON(map[string]string{"key_id": id, "private_key_pem": key}))
	if a.Status != http.StatusCreated && a.Status != http.StatusOK {
		n.T.Fatalf("put key: %d %s", a.Status, a.Body)
	}
}
