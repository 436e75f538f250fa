package interop

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	gts "code.superseriousbusiness.org/httpsig"
	"github.com/dadrus/httpsig"
	gofed "github.com/go-fed/httpsig"
)

// parse parses a request as net/http does on a server.
func (r *request) parse() (*http.Request, error) {
	return http.ReadRequest(bufio.NewReader(strings.NewReader(r.bytes())))
}

// verifyGoFed verifies by the library that Postrider signs with, which compares no digests.
func verifyGoFed(r *request, public crypto.PublicKey) error {
	req, err := r.parse()
	if err != nil {
		return err
	}
	v, err := gofed.NewVerifier(req)
	if err != nil {
		return err
	}
	return errors.Join(v.Verify(public, gofed.RSA_SHA256), r.checkDigest())
}

// verifyAsGoToSocial verifies by GoToSocial's fork of that, with the path and the query, then with the path alone.
func verifyAsGoToSocial(r *request, public crypto.PublicKey) error {
	req, err := r.parse()
	if err != nil {
		return err
	}
	v, err := gts.NewVerifier(req)
	if err != nil {
		return err
	}
	if v.Verify(public, gts.RSA_SHA256) != nil {
		err = v.VerifyWithOptions(public, gts.RSA_SHA256, gts.SignatureOption{ExcludeQueryStringFromPathPseudoHeader: true})
	}
	return errors.Join(err, r.checkDigest())
}

// verifyDadrus verifies by a library of RFC 9421, which compares the digest too.
func verifyDadrus(r *request, public crypto.PublicKey) error {
	req, err := r.parse()
	if err != nil {
		return err
	}
	if req.URL, err = url.Parse(r.protocol + "://" + req.Host + r.target()); err != nil {
		return err
	}
	v, err := httpsig.NewVerifier(publishedKey{public},
		httpsig.WithValidateAllSignatures(), httpsig.WithMaxAge(time.Hour), httpsig.WithExpiredTimestampRequired(false),
		httpsig.WithRequiredComponents("@method", "@target-uri", "content-digest"))
	if err != nil {
		return err
	}
	return v.Verify(httpsig.MessageFromRequest(req))
}

// publishedKey is the key at a key ID.
type publishedKey struct{ key crypto.PublicKey }

// ResolveKey implements httpsig.KeyResolver.
func (p publishedKey) ResolveKey(_ context.Context, id string) (httpsig.Key, error) {
	algorithm := httpsig.RsaPkcs1v15Sha256
	if _, ok := p.key.(ed25519.PublicKey); ok {
		algorithm = httpsig.Ed25519
	}
	return httpsig.Key{KeyID: id, Algorithm: algorithm, Key: p.key}, nil
}
