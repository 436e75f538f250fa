package interop

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"testing"
)

// verifier is an independent verifier. Its name is that of its npm package or Go module.
type verifier struct {
	name    string
	schemes []string
	verify  func(*request, crypto.PublicKey) error // nil: testdata/verifiers.mjs does
}

// verifiers are all verifiers by name. FEDERATION.md lists them with the versions.
func verifiers() []verifier {
	return []verifier{
		{"@fedify/fedify", []string{cavage, rfc9421}, nil},
		{"@misskey-dev/node-http-message-signatures", []string{cavage}, nil},
		{"@peertube/http-signature", []string{cavage}, nil},
		{"activitypub-http-signatures", []string{cavage}, nil},
		{"code.superseriousbusiness.org/httpsig", []string{cavage}, verifyAsGoToSocial},
		{"github.com/dadrus/httpsig", []string{rfc9421}, verifyDadrus},
		{"github.com/go-fed/httpsig", []string{cavage}, verifyGoFed},
		{"http-message-signatures", []string{cavage, rfc9421}, nil},
		{"http-signature", []string{cavage}, nil},
	}
}

// quirk is a kind of request for which a verifier gives the wrong verdict. FEDERATION.md lists them.
type quirk struct {
	verifier string
	scheme   string
	what     string
	why      string
	of       func(r *request, tampering string) bool
}

// refusals are the genuine requests that verifiers refuse.
func refusals() []quirk {
	target := func(pattern string) func(*request, string) bool {
		form := regexp.MustCompile(pattern)
		return func(r *request, _ string) bool { return form.MatchString(r.target()) }
	}
	query := target(`\?`)
	emptyQuery := target(`\?$`)
	apostrophe := target(`\?.*'`)
	escapes := target(`^[^?]*%`)
	const (
		gotosocial = "code.superseriousbusiness.org/httpsig"
		gofed      = "github.com/go-fed/httpsig"
		dhensby    = "http-message-signatures"
		escapesIt  = "JavaScript's URL class, which escapes it"
	)
	return []quirk{
		{"@fedify/fedify", cavage, "refuses a query", "it leaves the query out of (request-target)", query},
		{"@fedify/fedify", rfc9421, "refuses an apostrophe in the query", "it takes the URL from " + escapesIt, apostrophe},
		{gotosocial, cavage, "refuses an escaped path", "it decodes the path", escapes},
		{gotosocial, cavage, "refuses an empty query", "it loses the question mark", emptyQuery},
		{gofed, cavage, "refuses an escaped path", "it decodes the path", escapes},
		{gofed, cavage, "refuses an empty query", "it loses the question mark", emptyQuery},
		{dhensby, cavage, "refuses an apostrophe in the query", "it takes the target from " + escapesIt, apostrophe},
		{dhensby, cavage, "refuses an empty query", "it takes the target from JavaScript's URL class, which loses the question mark", emptyQuery},
	}
}

// blindSpots are the tampered requests that verifiers accept.
func blindSpots() []quirk {
	query := func(_ *request, tampering string) bool { return tampering == "query" }
	return []quirk{
		{"@fedify/fedify", cavage, "accepts an added query", "it leaves the query out of (request-target)", query},
		{"code.superseriousbusiness.org/httpsig", cavage, "accepts an added query", "GoToSocial tries without the query too", query},
	}
}

// applies returns why a verifier may give the wrong verdict, or "".
func applies(quirks []quirk, verifier string, r *request, tampering string) string {
	for _, q := range quirks {
		if q.verifier == verifier && q.scheme == r.scheme() && q.of(r, tampering) {
			return q.why
		}
	}
	return ""
}

// panel is all verifiers and the keys that they know.
type panel struct {
	javascript *javascript
	published  map[string]crypto.PublicKey // by key ID
}

// ask returns the verdict of each verifier that knows the scheme: "" or why it refuses the request.
func (p *panel) ask(ctx context.Context, r *request) (map[string]string, error) {
	verdicts, err := p.javascript.ask(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	var asked []string
	for _, v := range verifiers() {
		if !slices.Contains(v.schemes, r.scheme()) {
			continue
		}
		asked = append(asked, v.name)
		if v.verify != nil {
			verdicts[v.name] = ""
			if err := v.verify(r, p.published[r.keyID()]); err != nil {
				verdicts[v.name] = "refused: " + err.Error()
			}
		}
	}
	if answered := slices.Sorted(maps.Keys(verdicts)); !slices.Equal(asked, answered) {
		return nil, fmt.Errorf("%s: %q were to answer, %q did", r, asked, answered)
	}
	return verdicts, nil
}

// key is an actor's key.
type key struct {
	id      string
	private string           // PEM
	public  crypto.PublicKey // as the actor publishes it
}

// The keys by what they are. The forged one isn't the one that its actor publishes. The last two have documents of their
// own, which name an owner: it lists the one only.
const (
	rsa2048 = "https://app.example/users/alice#main-key"
	pkcs1   = "https://app.example/users/pkcs1#main-key"
	rsa4096 = "https://app.example/users/long#main-key"
	edwards = "https://app.example/users/ed#main-key"
	forged  = "https://app.example/users/mallory#main-key"
	listed  = "https://app.example/keys/listed"
	stray   = "https://app.example/keys/stray"
)

func makeKeys(t *testing.T) []key {
	t.Helper()
	alice := newRSA(t, 2048)
	other := newRSA(t, 2048)
	long := newRSA(t, 4096)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return []key{
		{rsa2048, pkcs8PEM(t, alice), alice.Public()},
		{pkcs1, encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(other)), other.Public()},
		{rsa4096, pkcs8PEM(t, long), long.Public()},
		{edwards, pkcs8PEM(t, private), public},
		{forged, pkcs8PEM(t, other), alice.Public()},
		{listed, pkcs8PEM(t, alice), alice.Public()},
		{stray, pkcs8PEM(t, other), other.Public()},
	}
}

func newRSA(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func pkcs8PEM(t *testing.T, private crypto.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return encode("PRIVATE KEY", der)
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
