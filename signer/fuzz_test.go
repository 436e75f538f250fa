package signer

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/dunglas/httpsfv"
)

// FuzzParsePrivateKey wants no panic, no key material in errors, and keys that survive sealing.
func FuzzParsePrivateKey(f *testing.F) {
	f.Add(readKey(f, "rfc9421-rsa.pem"))
	f.Add(readKey(f, "rfc9421-ed25519.pem"))
	f.Add(readKey(f, "cavage-rsa.pem"))
	f.Add([]byte(rsaKey().PublicPEM()))
	f.Add(block("PRIVATE KEY", []byte{0x30, 0x80, 0, 0}))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n-----END PRIVATE KEY-----"))
	sealer := newMemStore(f).sealer
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := ParsePrivateKey(text)
		if err != nil {
			if k != nil || !strings.HasPrefix(err.Error(), "private key refused: ") || len(err.Error()) > 250 {
				t.Errorf("key %v, error %q", k, err)
			}
			return
		}
		sealed, err := sealer.Seal(keyID, k)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := sealer.Open(keyID, sealed)
		if err != nil || opened.PublicPEM() != k.PublicPEM() {
			t.Errorf("opened %v with error %v, sealed %v", opened, err, k)
		}
	})
}

// echoRSA signs by doing nothing, for tests that need no real signature.
type echoRSA struct{}

func (echoRSA) Name() string                            { return "echo" }
func (echoRSA) Load(*rsa.PrivateKey) (RSASigner, error) { return echoRSA{}, nil }
func (echoRSA) SignPKCS1v15SHA256(digest [sha256.Size]byte) ([]byte, error) {
	return digest[:], nil
}

// FuzzSignatureHeader signs with any key ID and extra header: either Sign refuses, or parsing its
// output gives back the input, and printing that gives the same header again. No input can become a parameter.
func FuzzSignatureHeader(f *testing.F) {
	f.Add(keyID, "Collection-Synchronization", `collectionId="https://app.example/f"`)
	f.Add(`a",algorithm="hs2019`, "x", "1")
	f.Add("a\\", "digest", "")
	f.Add("a,b=c;d", "host", "\r\nHost: x")
	f.Add("(", "x\") \"y", "ü")
	key, err := newSigningKey(rawRSA(rsaKey()), echoRSA{})
	if err != nil {
		f.Fatal(err)
	}
	store := storeFunc(func() ([]byte, error) { return []byte("sealed"), nil })
	s := New(Options{Store: store, Sealer: newMemStore(f).sealer})
	s.keys.open = func(string, []byte) (*signingKey, error) { return key, nil }
	f.Fuzz(func(t *testing.T, id, name, value string) {
		for _, scheme := range []Scheme{Cavage, RFC9421} {
			req := newRequest(t, "https://one.example/inbox")
			req.Header.Set(name, value)
			p := params(scheme, name)
			p.KeyID = id
			if _, err := s.Sign(t.Context(), req, p); err != nil {
				unsigned(t, req)
				continue
			}
			var err error
			if scheme == Cavage {
				err = reprintCavage(req.Header.Get("Signature"), id, strings.ToLower(name))
			} else {
				err = reprintRFC9421(req.Header.Get("Signature-Input"), id, strings.ToLower(name))
			}
			if err != nil {
				t.Errorf("%s: %v", scheme, err)
			}
		}
	})
}

// reprintCavage parses by the grammar of draft-cavage-12 section 4.1: names, and values in quotation marks.
func reprintCavage(header, id, extra string) error {
	var names, values []string
	for rest := header; rest != ""; rest = strings.TrimPrefix(rest, ",") {
		name, after, ok1 := strings.Cut(rest, `="`)
		value, after, ok2 := strings.Cut(after, `"`)
		if !ok1 || !ok2 || after != "" && after[0] != ',' {
			return errors.New("malformed: " + header)
		}
		names = append(names, name)
		values = append(values, value)
		rest = after
	}
	if strings.Join(names, " ") != "keyId algorithm headers signature" || values[0] != id || values[1] != "rsa-sha256" {
		return errors.New("other parameters went in than came out: " + header)
	}
	headers := "(request-target) host date digest content-type"
	if !strings.Contains(" "+headers+" ", " "+extra+" ") {
		headers += " " + extra
	}
	if _, err := base64.StdEncoding.DecodeString(values[3]); err != nil || values[2] != headers {
		return errors.New("other headers went in than came out: " + header)
	}
	printed := ""
	for i, name := range names {
		printed += "," + name + `="` + values[i] + `"`
	}
	if printed[1:] != header {
		return errors.New("printed again it is " + printed[1:])
	}
	return nil
}

// reprintRFC9421 parses with a library of structured fields (RFC 9651).
func reprintRFC9421(header, id, extra string) error {
	d, err := httpsfv.UnmarshalDictionary([]string{header})
	if err != nil {
		return err
	}
	member, _ := d.Get("sig1")
	list, ok := member.(httpsfv.InnerList)
	if !ok || len(d.Names()) != 1 {
		return errors.New("not one inner list: " + header)
	}
	got := ""
	for _, item := range list.Items {
		got += item.Value.(string) + " "
	}
	want := "@method @target-uri content-digest "
	if extra != "content-digest" {
		want += extra + " "
	}
	params := strings.Join(list.Params.Names(), " ")
	if keyid, _ := list.Params.Get("keyid"); got != want || keyid != id || params != "created keyid alg" {
		return errors.New("other parameters went in than came out: " + header)
	}
	if printed, err := httpsfv.Marshal(d); err != nil || printed != header {
		return errors.New("printed again it is " + printed)
	}
	return nil
}
