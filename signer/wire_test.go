package signer

import (
	"bufio"
	"context"
	"crypto"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// received is a request as it came over the wire, cut by hand out of the bytes, without any code of
// net/http.
type received struct {
	method, target string
	header         map[string][]string // names in lower case
	body           []byte
}

// send signs a request and sends it over loopback, for any URL, without TLS even for https.
func send(t *testing.T, s *Signer, req *http.Request, p Params) (*received, Scheme) {
	t.Helper()
	used := mustSign(t, s, req, p)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	type result struct {
		r   *received
		err error
	}
	results := make(chan result, 1)
	go func() {
		r, err := receive(listener)
		results <- result{r, err}
	}()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
	}
	transport := &http.Transport{DialContext: dial, DialTLSContext: dial, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	got := <-results
	if got.err != nil {
		t.Fatal(got.err)
	}
	return got.r, used
}

func receive(listener net.Listener) (*received, error) {
	conn, err := listener.Accept()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	line, err := in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	parts := strings.Split(strings.TrimSuffix(line, "\r\n"), " ")
	if len(parts) != 3 {
		return nil, fmt.Errorf("request line %q", line)
	}
	r := &received{method: parts[0], target: parts[1], header: make(map[string][]string)}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if line == "\r\n" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		name = strings.ToLower(name)
		r.header[name] = append(r.header[name], strings.TrimSpace(value))
	}
	length, err := strconv.Atoi(strings.Join(r.header["content-length"], ""))
	if err != nil {
		return nil, err
	}
	r.body = make([]byte, length)
	if _, err := io.ReadFull(in, r.body); err != nil {
		return nil, err
	}
	_, err = io.WriteString(conn, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	return r, err
}

// one returns the only value of a header.
func (r *received) one(name string) (string, error) {
	if len(r.header[name]) != 1 {
		return "", fmt.Errorf("%d headers %s", len(r.header[name]), name)
	}
	return r.header[name][0], nil
}

// none checks that headers of the other scheme are not there.
func (r *received) none(names ...string) error {
	for _, name := range names {
		if len(r.header[name]) > 0 {
			return fmt.Errorf("header %s is there", name)
		}
	}
	return nil
}

// TestOverTheWire signs for inboxes of every shape, sends over loopback, and verifies the requests by hand and by
// libraries. The wanted Host, target and target URI are written out.
func TestOverTheWire(t *testing.T) {
	rsaSigner, _ := newSigner(t, rsaKey())
	edSigner, _ := newSigner(t, edKey())
	rsaPublic, edPublic := publicKey(t, rsaKey()), publicKey(t, edKey())
	for _, tt := range []struct{ url, host, target, uri string }{
		{"https://one.example/inbox", "one.example", "/inbox", "https://one.example/inbox"},
		{"https://one.example/users/%E3%81%82/inbox", "one.example", "/users/%E3%81%82/inbox", "https://one.example/users/%E3%81%82/inbox"},
		{"https://one.example/users/bob%40two.example/inbox", "one.example", "/users/bob%40two.example/inbox", "https://one.example/users/bob%40two.example/inbox"},
		{"https://one.example/a%2Fb/inbox", "one.example", "/a%2Fb/inbox", "https://one.example/a%2Fb/inbox"},
		{"https://one.example/a%2fb%20c%25/inbox", "one.example", "/a%2fb%20c%25/inbox", "https://one.example/a%2fb%20c%25/inbox"},
		{"https://one.example/inbox?a=1&b=%20x%2F&a=2", "one.example", "/inbox?a=1&b=%20x%2F&a=2", "https://one.example/inbox?a=1&b=%20x%2F&a=2"},
		{"https://one.example/inbox?", "one.example", "/inbox?", "https://one.example/inbox?"},
		{"https://one.example/inbox#part", "one.example", "/inbox", "https://one.example/inbox"},
		{"https://one.example", "one.example", "/", "https://one.example/"},
		{"https://one.example?q", "one.example", "/?q", "https://one.example/?q"},
		{"https://one.example//in//box/", "one.example", "//in//box/", "https://one.example//in//box/"},
		{"https://one.example:8443/inbox", "one.example:8443", "/inbox", "https://one.example:8443/inbox"},
		{"https://one.example:443/inbox", "one.example:443", "/inbox", "https://one.example/inbox"},
		{"http://one.example:80/inbox", "one.example:80", "/inbox", "http://one.example/inbox"},
		{"http://one.example:443/inbox", "one.example:443", "/inbox", "http://one.example:443/inbox"},
		{"https://One.Example/Inbox", "One.Example", "/Inbox", "https://one.example/Inbox"},
		{"https://xn--bcher-kva.example/inbox", "xn--bcher-kva.example", "/inbox", "https://xn--bcher-kva.example/inbox"},
		{"https://[2001:db8::1]/inbox", "[2001:db8::1]", "/inbox", "https://[2001:db8::1]/inbox"},
		{"https://[2001:db8::443]:8443/inbox", "[2001:db8::443]:8443", "/inbox", "https://[2001:db8::443]:8443/inbox"},
	} {
		t.Run(tt.url, func(t *testing.T) {
			r, _ := send(t, rsaSigner, newRequest(t, tt.url), params(Cavage))
			if host, err := r.one("host"); host != tt.host || r.target != tt.target {
				t.Fatalf("arrived at %q %q (%v), want %q %q", host, r.target, err, tt.host, tt.target)
			}
			check(t, "cavage by hand", verifyCavage(r, rsaPublic))
			check(t, "cavage by go-fed/httpsig", verifyGoFed(r, rsaPublic))

			r, _ = send(t, rsaSigner, newRequest(t, tt.url), params(RFC9421))
			check(t, "RFC 9421 with RSA by hand", verifyRFC9421(r, rsaPublic, tt.uri))
			check(t, "RFC 9421 with RSA by remitly-oss/httpsig-go", verifyRemitly(r, rsaPublic, tt.uri))

			r, _ = send(t, edSigner, newRequest(t, tt.url), params(RFC9421))
			check(t, "RFC 9421 with Ed25519 by hand", verifyRFC9421(r, edPublic, tt.uri))
			check(t, "RFC 9421 with Ed25519 by remitly-oss/httpsig-go", verifyRemitly(r, edPublic, tt.uri))
		})
	}
}

func check(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// TestTampering checks that the verifiers above detect changes.
func TestTampering(t *testing.T) {
	s, _ := newSigner(t, rsaKey())
	public, other := publicKey(t, rsaKey()), publicKey(t, otherRSAKey())
	const uri = "https://one.example/inbox"
	for name, tamper := range map[string]func(*received){
		"body":         func(r *received) { r.body[0]++ },
		"method":       func(r *received) { r.method = "PUT" },
		"signed value": func(r *received) { r.header["x-extra"] = []string{"other"} },
		"signature": func(r *received) {
			value := []byte(r.header["signature"][0])
			if at := len(value) - 20; value[at] == 'A' { // the signature itself stands last
				value[at] = 'B'
			} else {
				value[at] = 'A'
			}
			r.header["signature"][0] = string(value)
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, scheme := range []Scheme{Cavage, RFC9421} {
				req := newRequest(t, uri)
				req.Header.Set("X-Extra", "value")
				r, _ := send(t, s, req, params(scheme, "X-Extra"))
				verifyAs := func(key crypto.PublicKey) error {
					if scheme == Cavage {
						return verifyCavage(r, key)
					}
					return verifyRFC9421(r, key, uri)
				}
				check(t, "untouched", verifyAs(public))
				if verifyAs(other) == nil {
					t.Errorf("%s: verified with another key", scheme)
				}
				tamper(r)
				if verifyAs(public) == nil {
					t.Errorf("%s: verified though changed", scheme)
				}
			}
		})
	}
}

// TestExtraHeaders signs headers of a recipient, as FEP-8fcf requires of Collection-Synchronization.
func TestExtraHeaders(t *testing.T) {
	s, _ := newSigner(t, rsaKey())
	public := publicKey(t, rsaKey())
	const uri = "https://one.example/inbox"
	for _, scheme := range []Scheme{Cavage, RFC9421} {
		req := newRequest(t, uri)
		req.Header.Set("Collection-Synchronization", `collectionId="https://app.example/f", digest="00ff"`)
		req.Header["X-Many"] = []string{" one ", "two"}
		req.Header.Set("X-Empty", "")
		r, _ := send(t, s, req, params(scheme, "collection-synchronization", "X-Many", "X-EMPTY", "x-many"))
		want := "collection-synchronization x-many x-empty"
		if scheme == Cavage {
			check(t, "cavage", verifyCavage(r, public))
			want = "content-type " + want + `",signature`
		} else {
			check(t, "RFC 9421", verifyRFC9421(r, public, uri))
			r.header["signature"] = r.header["signature-input"]
			want = `"content-digest" "` + strings.ReplaceAll(want, " ", `" "`) + `");`
		}
		if got, _ := r.one("signature"); !strings.Contains(got, want) {
			t.Errorf("%s: %q doesn't list %q", scheme, got, want)
		}
	}
}
