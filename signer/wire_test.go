package signer

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-fed/httpsig"
	remitly "github.com/remitly-oss/httpsig-go"
	"github.com/remitly-oss/httpsig-go/keyman"
)

// received is a request as it came over the wire, cut by hand out of the bytes, so that no code of net/http has touched
// what the verifiers here look at.
type received struct {
	scheme, method, target string
	header                 map[string][]string // names in lower case
	body                   []byte
}

// send signs a request and sends it over loopback, whatever its URL says, in clear also when that is https.
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
	got.r.scheme = req.URL.Scheme
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

var cavageForm = regexp.MustCompile(
	`^keyId="([^"]+)",algorithm="rsa-sha256",headers="\(request-target\) host date digest content-type((?: [a-z0-9-]+)*)",signature="([A-Za-z0-9+/=]+)"$`)

// verifyCavage verifies by the text of draft-cavage-12, and what receivers want beyond it.
func verifyCavage(r *received, key crypto.PublicKey) error {
	date, err := r.one("date")
	if err != nil {
		return err
	}
	digest, err := r.one("digest")
	if err != nil {
		return err
	}
	header, err := r.one("signature")
	if err != nil {
		return err
	}
	if err := r.none("signature-input", "content-digest"); err != nil {
		return err
	}
	sum := sha256.Sum256(r.body)
	if want := "SHA-256=" + base64.StdEncoding.EncodeToString(sum[:]); digest != want {
		return fmt.Errorf("digest %q, want %q", digest, want)
	}
	if err := recent(date); err != nil {
		return err
	}
	m := cavageForm.FindStringSubmatch(header)
	if m == nil || m[1] != keyID {
		return fmt.Errorf("signature %q", header)
	}
	lines := []string{"(request-target): " + strings.ToLower(r.method) + " " + r.target}
	for _, name := range strings.Fields("host date digest content-type" + m[2]) {
		if len(r.header[name]) == 0 {
			return fmt.Errorf("signed header %s isn't there", name)
		}
		lines = append(lines, name+": "+strings.Join(r.header[name], ", "))
	}
	return verify(key, strings.Join(lines, "\n"), m[3])
}

var (
	inputForm = regexp.MustCompile(
		`^sig1=(\("@method" "@target-uri" "content-digest"((?: "[a-z0-9-]+")*)\);created=(\d+);keyid="([^"]+)";alg="(rsa-v1_5-sha256|ed25519)")$`)
	signatureForm = regexp.MustCompile(`^sig1=:([A-Za-z0-9+/=]+):$`)
)

// verifyRFC9421 verifies by the text of RFC 9421. uri is the target URI written by hand.
func verifyRFC9421(r *received, key crypto.PublicKey, uri string) error {
	if err := r.none("digest"); err != nil {
		return err
	}
	input, err := r.one("signature-input")
	if err != nil {
		return err
	}
	header, err := r.one("signature")
	if err != nil {
		return err
	}
	digest, err := r.one("content-digest")
	if err != nil {
		return err
	}
	sum := sha256.Sum256(r.body)
	if want := "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"; digest != want {
		return fmt.Errorf("digest %q, want %q", digest, want)
	}
	m, sig := inputForm.FindStringSubmatch(input), signatureForm.FindStringSubmatch(header)
	if m == nil || sig == nil || m[4] != keyID {
		return fmt.Errorf("signature %q of input %q", header, input)
	}
	created, err := strconv.ParseInt(m[3], 10, 64)
	if err != nil {
		return err
	}
	if err := recent(time.Unix(created, 0).UTC().Format(http.TimeFormat)); err != nil {
		return err
	}
	base := `"@method": ` + r.method + "\n" + `"@target-uri": ` + uri + "\n" + `"content-digest": ` + digest + "\n"
	for _, quoted := range strings.Fields(m[2]) {
		base += quoted + ": " + strings.Join(r.header[strings.Trim(quoted, `"`)], ", ") + "\n"
	}
	return verify(key, base+`"@signature-params": `+m[1], sig[1])
}

// recent checks an IMF-fixdate: two digits for the day, GMT, and not ahead of the clock.
func recent(date string) error {
	at, err := time.Parse("Mon, 02 Jan 2006 15:04:05 GMT", date)
	if age := time.Since(at); err != nil || age < 0 || age > time.Minute {
		return fmt.Errorf("date %q is %v old: %w", date, age, err)
	}
	return nil
}

func verify(key crypto.PublicKey, signed, encoded string) error {
	signature, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return err
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		sum := sha256.Sum256([]byte(signed))
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature)
	case ed25519.PublicKey:
		if ed25519.Verify(key, []byte(signed), signature) {
			return nil
		}
	}
	return errors.New("signature doesn't fit")
}

// verifyGoFed verifies with go-fed/httpsig, given the path as sent, since it would decode it.
func verifyGoFed(r *received, key crypto.PublicKey) error {
	v, err := httpsig.NewVerifier(r.request())
	if err != nil {
		return err
	}
	if v.KeyId() != keyID {
		return fmt.Errorf("key ID %q", v.KeyId())
	}
	return v.Verify(key, httpsig.RSA_SHA256)
}

// verifyRemitly verifies with remitly-oss/httpsig-go, which makes @target-uri of RawPath and RawQuery, so it is given
// the whole target as one of them.
func verifyRemitly(r *received, key crypto.PublicKey, uri string) error {
	algorithm := remitly.Algo_RSA_v1_5_sha256
	if _, ok := key.(ed25519.PublicKey); ok {
		algorithm = remitly.Algo_ED25519
	}
	keys := keyman.NewKeyFetchInMemory(map[string]remitly.KeySpec{keyID: {KeyID: keyID, Algo: algorithm, PubKey: key}})
	req := r.request()
	u, err := url.Parse(uri)
	if err != nil {
		return err
	}
	req.Host = u.Host
	if u.Scheme == "https" {
		req.TLS = new(tls.ConnectionState)
	}
	_, err = remitly.Verify(req, keys, remitly.VerifyProfile{
		SignatureLabel:    "sig1",
		AllowedAlgorithms: []remitly.Algorithm{algorithm},
		RequiredFields:    remitly.Fields("@method", "@target-uri", "content-digest"),
		RequiredMetadata:  []remitly.Metadata{remitly.MetaCreated, remitly.MetaKeyID, remitly.MetaAlgorithm},
	})
	return err
}

// request makes of r what a library takes.
func (r *received) request() *http.Request {
	h := make(http.Header)
	for name, values := range r.header {
		h[http.CanonicalHeaderKey(name)] = values
	}
	host := h.Get("Host")
	h.Del("Host")
	return &http.Request{
		Method: r.method, Host: host, Header: h, RequestURI: r.target,
		URL: &url.URL{Path: r.target, RawPath: r.target}, Body: io.NopCloser(bytes.NewReader(r.body)),
	}
}

func publicKey(t testing.TB, k *PrivateKey) crypto.PublicKey {
	t.Helper()
	b, _ := pem.Decode([]byte(k.PublicPEM()))
	key, err := x509.ParsePKIXPublicKey(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestOverTheWire signs for inboxes of every shape, sends over loopback, and has what arrived verified by hand and by
// libraries. What must arrive as Host, target and target URI is written out.
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

// TestTampering makes sure that the verifiers above see what they must.
func TestTampering(t *testing.T) {
	s, _ := newSigner(t, rsaKey())
	public, other := publicKey(t, rsaKey()), publicKey(t, otherRSAKey())
	const uri = "https://one.example/inbox"
	for name, tamper := range map[string]func(*received){
		"body":         func(r *received) { r.body[0]++ },
		"method":       func(r *received) { r.method = "PUT" },
		"signed value": func(r *received) { r.header["x-extra"] = []string{"other"} },
		"signature": func(r *received) {
			r.header["signature"][0] = strings.Replace(r.header["signature"][0], "A", "B", 1)
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

// TestExtraHeaders signs headers of a recipient, as FEP-8fcf wants of Collection-Synchronization.
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
