package signer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"
)

func TestParsePrivateKeyAccepts(t *testing.T) {
	r := rawRSA(rsaKey())
	seed := rawEd(edKey())
	big4096, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		text      []byte
		algorithm string
	}{
		"RSA PKCS#1":       {block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(r)), "rsa"},
		"RSA PKCS#8":       {pkcs8(r), "rsa"},
		"RSA 4096":         {pkcs8(big4096), "rsa"},
		"Ed25519":          {pkcs8(seed), "ed25519"},
		"CRLF":             {bytes.ReplaceAll(pkcs8(seed), []byte("\n"), []byte("\r\n")), "ed25519"},
		"space around":     {append([]byte("\n  "), append(pkcs8(seed), " \n\n"...)...), "ed25519"},
		"no final newline": {bytes.TrimSpace(pkcs8(r)), "rsa"},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := ParsePrivateKey(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if k.Algorithm() != tt.algorithm {
				t.Errorf("algorithm %q, want %q", k.Algorithm(), tt.algorithm)
			}
		})
	}
}

func TestParsePrivateKeyRefuses(t *testing.T) {
	good := pkcs8(rawRSA(rsaKey()))
	goodBlock, _ := pem.Decode(good)
	edBlock, _ := pem.Decode(pkcs8(rawEd(edKey())))
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	encrypted := pem.EncodeToMemory(&pem.Block{
		Type: "RSA PRIVATE KEY", Bytes: goodBlock.Bytes,
		Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00112233445566778899AABBCCDDEEFF"},
	})
	for name, tt := range map[string]struct {
		text []byte
		why  string
	}{
		"nothing":            {nil, "it is empty"},
		"space":              {[]byte(" \n\t"), "it is empty"},
		"prose":              {[]byte("hunter2"), "doesn't start as PEM"},
		"DER":                {goodBlock.Bytes, "doesn't start as PEM"},
		"text before":        {append([]byte("key:\n"), good...), "doesn't start as PEM"},
		"text after":         {append(bytes.Clone(good), "and more"...), "something follows"},
		"two blocks":         {append(bytes.Clone(good), good...), "more than one"},
		"cut off":            {good[:len(good)/2], "damaged"},
		"too long":           {bytes.Repeat(good, 9), "too long"},
		"bad base64":         {bytes.Replace(good, []byte("M"), []byte("!"), 1), "damaged"},
		"public key":         {[]byte(rsaKey().PublicPEM()), "a public key"},
		"PKCS#1 public key":  {block("RSA PUBLIC KEY", []byte{1}), "a public key"},
		"certificate":        {block("CERTIFICATE", []byte{1}), "a certificate"},
		"encrypted PKCS#1":   {encrypted, "it is encrypted"},
		"encrypted PKCS#8":   {block("ENCRYPTED PRIVATE KEY", []byte{1}), "it is encrypted"},
		"EC":                 {block("EC PRIVATE KEY", ecDER), "elliptic-curve"},
		"EC in PKCS#8":       {pkcs8(ec), "neither RSA nor Ed25519"},
		"OpenSSH":            {block("OPENSSH PRIVATE KEY", []byte{1}), "OpenSSH"},
		"other label":        {block("PGP MESSAGE", []byte{1}), "isn't labelled"},
		"wrong label":        {block("RSA PRIVATE KEY", goodBlock.Bytes), "PKCS#1"},
		"empty DER":          {block("PRIVATE KEY", nil), "damaged"},
		"bytes after PKCS#8": {block("PRIVATE KEY", append(bytes.Clone(edBlock.Bytes), 5, 0)), "damaged"},
		"1024 bits":          {readKey(t, "cavage-rsa.pem"), "RSA of 1024 bits"},
		"2047 bits":          {block("RSA PRIVATE KEY", rsaDER(t, 2047, 65537)), "RSA of 2047 bits"},
		"8194 bits":          {block("RSA PRIVATE KEY", tooLarge(t)), "RSA of 8194 bits"},
		"exponent 3":         {block("RSA PRIVATE KEY", rsaDER(t, 2048, 3)), "exponent"},
		"three primes":       {block("RSA PRIVATE KEY", threePrimes(t)), "more than two primes"},
		"bytes after PKCS#1": {block("RSA PRIVATE KEY", append(rsaDER(t, 2048, 65537), 5, 0)), "isn't a sound RSA"},
		"PKCS#8 of rubbish":  {inPKCS8([]byte{5, 0}), "isn't a sound RSA"},
		"512 bits in PKCS#8": {inPKCS8(rsaDER(t, 512, 65537)), "RSA of 512 bits"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, tt.text, tt.why)
		})
	}
}

// refused checks that a key is refused for the right reason, in an error that does not quote it.
func refused(t *testing.T, text []byte, why string) {
	t.Helper()
	k, err := ParsePrivateKey(text)
	if err == nil {
		t.Fatalf("accepted as %v", k)
	}
	if !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "; accepted is ") {
		t.Errorf("error %q doesn't say %q and what is accepted", err, why)
	}
	if len(err.Error()) > 250 {
		t.Errorf("error of %d bytes", len(err.Error()))
	}
	for _, line := range strings.Fields(string(text)) {
		if len(line) > 10 && strings.Contains(err.Error(), line) {
			t.Errorf("error %q quotes its input", err)
		}
	}
}

// pkcs1 is RSAPrivateKey of RFC 8017, appendix A.1.2, for keys that crypto/x509 would not write.
type pkcs1 struct {
	Version               int
	N                     *big.Int
	E                     int
	D, P, Q, DP, DQ, QInv *big.Int
	Others                []otherPrime `asn1:"optional,omitempty"`
}

type otherPrime struct{ Prime, Exp, Coeff *big.Int }

// assemble makes the DER of an RSA key of p, q and perhaps a third factor, whether or not they are primes. It returns
// nil where they don't go with e or with each other.
func assemble(t *testing.T, e int64, p, q *big.Int, others ...*big.Int) []byte {
	t.Helper()
	one := big.NewInt(1)
	less := func(x *big.Int) *big.Int { return new(big.Int).Sub(x, one) }
	n := new(big.Int).Mul(p, q)
	phi := new(big.Int).Mul(less(p), less(q))
	for _, r := range others {
		n.Mul(n, r)
		phi.Mul(phi, less(r))
	}
	d := new(big.Int).ModInverse(big.NewInt(e), phi)
	if d == nil {
		return nil
	}
	k := pkcs1{
		N: n, E: int(e), D: d, P: p, Q: q,
		DP: new(big.Int).Mod(d, less(p)), DQ: new(big.Int).Mod(d, less(q)), QInv: new(big.Int).ModInverse(q, p),
	}
	if k.QInv == nil {
		return nil
	}
	product := new(big.Int).Mul(p, q)
	for _, r := range others {
		k.Version = 1
		k.Others = append(k.Others, otherPrime{r, new(big.Int).Mod(d, less(r)), new(big.Int).ModInverse(product, r)})
	}
	return marshal(k)
}

func prime(t *testing.T, bits int) *big.Int {
	t.Helper()
	p, err := rand.Prime(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// rsaDER makes a sound key of exactly the given size and exponent.
func rsaDER(t *testing.T, bits int, e int64) []byte {
	t.Helper()
	for {
		p, q := prime(t, bits/2), prime(t, bits-bits/2)
		if new(big.Int).Mul(p, q).BitLen() != bits {
			continue
		}
		if der := assemble(t, e, p, q); der != nil {
			return der
		}
	}
}

// tooLarge makes something of the size of a key that is too large. Finding real primes of that size takes too long for
// a test, and is not needed to be refused.
func tooLarge(t *testing.T) []byte {
	t.Helper()
	odd := func(bits int) *big.Int {
		x := new(big.Int).Lsh(big.NewInt(3), uint(bits-2))
		r, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(bits-2)))
		if err != nil {
			t.Fatal(err)
		}
		return x.Add(x, r).SetBit(x, 0, 1)
	}
	for {
		if der := assemble(t, 65537, odd(4097), odd(4097)); der != nil {
			return der
		}
	}
}

func threePrimes(t *testing.T) []byte {
	t.Helper()
	for {
		if der := assemble(t, 65537, prime(t, 700), prime(t, 700), prime(t, 700)); der != nil {
			return der
		}
	}
}

// compositePrime makes a key whose numbers fit each other, but p isn't prime.
func compositePrime(t *testing.T) []byte {
	t.Helper()
	for {
		p := new(big.Int).Mul(prime(t, 512), prime(t, 512))
		if der := assemble(t, 65537, p, prime(t, 1026)); der != nil {
			return der
		}
	}
}

// secrets are the private numbers of a key in all forms in which they could be printed.
func secrets(k *PrivateKey) []string {
	var raw [][]byte
	if k.rsa {
		key := rawRSA(k)
		raw = append(raw, key.D.Bytes(), key.Primes[0].Bytes(), key.Primes[1].Bytes())
	} else {
		raw = append(raw, rawEd(k).Seed())
	}
	var out []string
	for _, b := range raw {
		list := fmt.Sprint(b[:8])
		out = append(out,
			new(big.Int).SetBytes(b).String()[:20], string(b[:8]),
			hex.EncodeToString(b[:8]), strings.ToUpper(hex.EncodeToString(b[:8])),
			base64.StdEncoding.EncodeToString(b[:9]), base64.RawURLEncoding.EncodeToString(b[:9]),
			strings.Trim(list, "[]"), strings.ReplaceAll(strings.Trim(list, "[]"), " ", ", "),
			strings.Trim(fmt.Sprintf("%#v", b[:8]), "[]byte{}"))
	}
	return out
}

// TestNothingPrintsSecrets formats keys, and values that hold them, in every way.
func TestNothingPrintsSecrets(t *testing.T) {
	for _, k := range []*PrivateKey{rsaKey(), edKey()} {
		s, store := newSigner(t, k)
		mustSign(t, s, newRequest(t, "https://one.example/inbox"), params(Cavage)) // so that the cache holds the key
		type holder struct {
			Exported    PrivateKey
			ExportedPtr *PrivateKey
			hidden      PrivateKey
			hiddenPtr   *PrivateKey
			list        []PrivateKey
		}
		h := holder{*k, k, *k, k, []PrivateKey{*k}}
		for _, v := range []any{k, *k, h, &h, []any{k, *k}, map[string]PrivateKey{"k": *k}, s, *s, store.sealer, *store.sealer} {
			for _, text := range allFormats(t, v) {
				for _, secret := range secrets(k) {
					if strings.Contains(text, secret) {
						t.Errorf("%T of a key of %s shows a secret: %.200s", v, k.Algorithm(), text)
					}
				}
				if strings.Contains(text, strings.Repeat("m", 8)) || strings.Contains(text, strings.Repeat("109 ", 8)) {
					t.Errorf("%T shows the master key", v)
				}
			}
		}
	}
}

func allFormats(t *testing.T, v any) []string {
	t.Helper()
	var out []string
	for _, flag := range []string{"", "+", "#", "0", " "} {
		for _, verb := range "vsdxXqobcUpt" {
			out = append(out, fmt.Sprintf("%"+flag+string(verb), v))
		}
	}
	if j, err := json.Marshal(v); err == nil {
		out = append(out, string(j))
	}
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("m", "v", v)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("m", "v", v)
	return append(out, b.String())
}

func TestKeyNamesItself(t *testing.T) {
	for _, k := range []*PrivateKey{rsaKey(), edKey()} {
		want := k.Algorithm() + " private key " + k.Fingerprint()
		for _, got := range []string{k.String(), fmt.Sprintf("%+v", k), fmt.Sprintf("%#v", *k), k.LogValue().String()} {
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	}
}

func TestEd25519PublicHalf(t *testing.T) {
	pemBlock, _ := pem.Decode([]byte(edKey().PublicPEM()))
	public, err := x509.ParsePKIXPublicKey(pemBlock.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !rawEd(edKey()).Public().(ed25519.PublicKey).Equal(public) {
		t.Error("PublicPEM holds another key")
	}
}
