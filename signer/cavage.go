package signer

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-fed/httpsig"
	"golang.org/x/crypto/ssh"
)

// requestTarget is the pseudo-header of method and target (draft-cavage-12 section 2.3).
const requestTarget = "(request-target)"

// signCavage signs m by draft-cavage-12, composed by go-fed/httpsig.
func signCavage(m *message, key *signingKey) error {
	contentType, err := m.field("Content-Type")
	if err != nil {
		return err
	}
	// Some receivers compare the name of the algorithm literally: in capitals, and with one algorithm only.
	digest := "SHA-256=" + base64.StdEncoding.EncodeToString(m.Digest[:])
	covered, err := m.withHeaders([]component{
		{"host", m.host}, {"date", m.header.Get("Date")}, {"digest", digest}, contentType,
	})
	if err != nil {
		return err
	}
	signature, err := composeCavage(m, covered, key)
	if err != nil {
		return err
	}
	m.header["Digest"] = []string{digest}
	m.header["Signature"] = []string{signature}
	return nil
}

// composeCavage makes the Signature header. The library would sign the decoded path and expects Host among the headers,
// so it signs a copy of the request, whose path is the whole request target as sent.
func composeCavage(m *message, covered []component, key *signingKey) (string, error) {
	request := &http.Request{Method: m.method, URL: &url.URL{Path: m.target}, Header: make(http.Header, len(covered)+1)}
	names := append(make([]string, 0, len(covered)+1), requestTarget)
	for _, c := range covered {
		names = append(names, c.name)
		request.Header[http.CanonicalHeaderKey(c.name)] = []string{c.value}
	}
	// A Signer of the library must not be used by two goroutines, so each signature has its own.
	s, _, err := httpsig.NewSSHSigner(sshAdapter{key}, httpsig.DigestSha256, names, httpsig.Signature, 0)
	if err != nil {
		return "", err
	}
	if err := s.SignRequest(m.KeyID, request, nil); err != nil { // no body: the digest is there already
		return "", err
	}
	return nameAlgorithm(request.Header.Get("Signature"))
}

// nameAlgorithm writes rsa-sha256 for the library's hs2019, which some receivers don't know and others take for SHA-512.
// The parameter is not signed. It follows the key ID, which has no quotation mark in it (CheckKeyID).
func nameAlgorithm(signature string) (string, error) {
	before, after, ok := strings.Cut(signature, `",algorithm="hs2019",`)
	if !ok || strings.Count(before, `"`) != 1 {
		return "", errors.New("signature is not in the form expected of go-fed/httpsig")
	}
	return before + `",algorithm="rsa-sha256",` + after, nil
}

// sshAdapter makes a signingKey an ssh.Signer: besides keys of crypto/rsa, go-fed/httpsig accepts only those.
type sshAdapter struct{ key *signingKey }

// PublicKey returns the public key, of which the library reads only the type.
func (a sshAdapter) PublicKey() ssh.PublicKey { return a.key.public }

// Sign signs by RSASSA-PKCS1-v1_5 with SHA-256, unlike SSH's own ssh-rsa.
func (a sshAdapter) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	blob, err := a.key.rsa.SignPKCS1v15SHA256(sha256.Sum256(data))
	if err != nil {
		return nil, err
	}
	return &ssh.Signature{Blob: blob}, nil
}
