package interop

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// set replaces a header, which must be there.
func (r *request) set(name string, change func(value string) string) {
	r.lines[r.find(name)] = name + ": " + change(r.header(name))
}

// retarget replaces a word of the request line.
func (r *request) retarget(word int, value string) {
	words := strings.Fields(r.lines[0])
	words[word] = value
	r.lines[0] = strings.Join(words, " ")
}

// tampering is a change that a verifier must detect.
type tampering struct {
	name   string
	scheme string // the only one it can be seen by, or "" for both
	change func(*request)
}

func tamperings() []tampering {
	to := func(value string) func(string) string { return func(string) string { return value } }
	return []tampering{
		{"method", "", func(r *request) { r.retarget(0, http.MethodPut) }},
		{"path", "", func(r *request) { r.retarget(1, "/outbox") }},
		{"query", "", func(r *request) { r.retarget(1, "/inbox?a=1") }},
		{"host", "", func(r *request) { r.set("Host", to("two.example")) }},
		{"protocol", rfc9421, func(r *request) { r.protocol = "https" }},
		{"body", "", changeBody},
		{"body with its digest", "", func(r *request) { changeBody(r); fitDigest(r) }},
		{"digest", "", func(r *request) { changeBody(r); fitDigest(r); unchangeBody(r) }},
		{"date", cavage, func(r *request) { r.set("Date", to(time.Now().Add(-20*time.Second).UTC().Format(http.TimeFormat))) }},
		{"created", rfc9421, backdate},
		{"type", cavage, func(r *request) { r.set("Content-Type", to("application/ld+json")) }},
		{"recipient's header", "", func(r *request) { r.set("Collection-Synchronization", to(`collectionId="https://app.example/f"`)) }},
		{"signature", "", breakSignature},
		{"key ID", "", func(r *request) { rename(r, pkcs1) }},
		{"no signature", "", func(r *request) { r.lines = slices.Delete(r.lines, r.find("Signature"), r.find("Signature")+1) }},
	}
}

func changeBody(r *request)   { r.body = strings.Replace(r.body, "notes/1", "notes/2", 1) }
func unchangeBody(r *request) { r.body = strings.Replace(r.body, "notes/2", "notes/1", 1) }

// fitDigest makes the digest be the body's.
func fitDigest(r *request) {
	sum := sha256.Sum256([]byte(r.body))
	name, value := "Digest", "SHA-256="+base64.StdEncoding.EncodeToString(sum[:])
	if r.scheme() == rfc9421 {
		name, value = "Content-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":"
	}
	r.set(name, func(string) string { return value })
}

var createdParameter = regexp.MustCompile(`;created=(\d+)`)

func backdate(r *request) {
	r.set("Signature-Input", func(value string) string {
		return createdParameter.ReplaceAllStringFunc(value, func(parameter string) string {
			at, _ := strconv.Atoi(strings.TrimPrefix(parameter, ";created="))
			return ";created=" + strconv.Itoa(at-20)
		})
	})
}

// signatureValue is the base64 of a signature by either scheme.
var signatureValue = regexp.MustCompile(`(signature="|sig1=:)([A-Za-z0-9+/]{20})`)

// breakSignature changes a bit in the middle of the signature.
func breakSignature(r *request) {
	r.set("Signature", func(value string) string {
		at := signatureValue.FindStringSubmatchIndex(value)[5]
		other := "A"
		if value[at] == 'A' {
			other = "B"
		}
		return value[:at] + other + value[at+1:]
	})
}

// rename replaces the key ID by that of another key.
func rename(r *request, keyID string) {
	name := "Signature"
	if r.scheme() == rfc9421 {
		name = "Signature-Input"
	}
	r.set(name, func(value string) string { return strings.Replace(value, r.keyID(), keyID, 1) })
}

// testTampered changes deliveries on their way.
func testTampered(t *testing.T, n node, p *panel) {
	n = n.in(t)
	for _, keyID := range []string{rsa2048, edwards} {
		tolerant, strict := openDoor(t, "127.0.0.1:0", accepts), openDoor(t, "127.0.0.1:0", knowsRFC9421)
		n.deliver("https://app.example/tampered/"+keyID, keyID, []string{"http://" + tolerant.host() + "/inbox", "http://" + strict.host() + "/inbox"})
		for _, genuine := range append(tolerant.accepted(), strict.accepted()...) {
			check(t, p, genuine, refusals(), "")
			for _, tamper := range tamperings() {
				if tamper.scheme != "" && tamper.scheme != genuine.scheme() {
					continue
				}
				r := &request{protocol: genuine.protocol, lines: slices.Clone(genuine.lines), body: genuine.body}
				tamper.change(r)
				if r.protocol == genuine.protocol && r.bytes() == genuine.bytes() {
					t.Fatalf("%s: nothing was changed", tamper.name)
				}
				check(t, p, r, blindSpots(), tamper.name)
			}
		}
	}
}
