package signer

import (
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
)

// TestBrokenRSAKeysAreNamed checks that an RSA key which is weak or doesn't fit together is refused for what is wrong with
// it, in PKCS#1 and in PKCS#8.
func TestBrokenRSAKeysAreNamed(t *testing.T) {
	one, two := big.NewInt(1), big.NewInt(2)
	for name, tt := range map[string]struct {
		spoil func(k *pkcs1)
		why   string
	}{
		"even exponent":       {func(k *pkcs1) { k.E = 65538 }, "exponent is even"},
		"exponent 1":          {func(k *pkcs1) { k.E = 1 }, "exponent too small"},
		"exponent too large":  {func(k *pkcs1) { k.E = 1<<31 + 11 }, "exponent too large"},
		"exponent of another": {func(k *pkcs1) { k.E = 65539 }, "CRT exponent"},
		"D of another":        {func(k *pkcs1) { k.D = rawRSA(otherRSAKey()).D }, "d does not match"},
		"N of another":        {func(k *pkcs1) { k.N = rawRSA(otherRSAKey()).N }, "p * q != n"},
		"P of another":        {func(k *pkcs1) { k.P = rawRSA(otherRSAKey()).Primes[0] }, "p * q != n"},
		"P and Q swapped":     {func(k *pkcs1) { k.P, k.Q = k.Q, k.P }, "isn't a sound RSA"},
		"DP of another":       {func(k *pkcs1) { k.DP = new(big.Int).Add(k.DP, two) }, "CRT exponent"},
		"DQ of another":       {func(k *pkcs1) { k.DQ = new(big.Int).Add(k.DQ, two) }, "CRT exponent"},
		"QInv of another":     {func(k *pkcs1) { k.QInv = new(big.Int).Add(k.QInv, one) }, "CRT coefficient"},
		"D zero":              {func(k *pkcs1) { k.D = new(big.Int) }, "isn't a sound RSA"},
		"P negative":          {func(k *pkcs1) { k.P = new(big.Int).Neg(k.P) }, "isn't a sound RSA"},
		"P one":               {func(k *pkcs1) { k.P, k.Q = one, k.N }, "isn't a sound RSA"},
	} {
		k := pkcs1Of(rawRSA(rsaKey()))
		tt.spoil(&k)
		checkRefused(t, name, marshal(k), tt.why)
	}
	checkRefused(t, "composite as prime", compositePrime(t), "is no prime")
	checkRefused(t, "small prime", assembleAny(t, prime(t, 600), prime(t, 1448)), "too small")
	p := prime(t, 1024)
	for q := new(big.Int).Add(p, two); ; q.Add(q, two) {
		if q.ProbablyPrime(0) {
			checkRefused(t, "close primes", assembleAny(t, p, q), "|p - q| too small")
			break
		}
	}
}

// checkRefused checks that a key is refused both in PKCS#1 and in PKCS#8.
func checkRefused(t *testing.T, name string, der []byte, why string) {
	t.Helper()
	for form, text := range map[string][]byte{"PKCS#1": block("RSA PRIVATE KEY", der), "PKCS#8": inPKCS8(der)} {
		t.Run(name+" in "+form, func(t *testing.T) { refused(t, text, why) })
	}
}

// inPKCS8 wraps the DER of an RSA key that crypto/x509 would not.
func inPKCS8(der []byte) []byte {
	return block("PRIVATE KEY", marshal(struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}{0, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, Parameters: asn1.NullRawValue}, der}))
}

func marshal(v any) []byte {
	der, err := asn1.Marshal(v)
	if err != nil {
		panic(err)
	}
	return der
}

func pkcs1Of(k *rsa.PrivateKey) pkcs1 {
	return pkcs1{
		N: k.N, E: k.E, D: k.D, P: k.Primes[0], Q: k.Primes[1],
		DP: k.Precomputed.Dp, DQ: k.Precomputed.Dq, QInv: k.Precomputed.Qinv,
	}
}

// assembleAny makes a key of p and q with whatever larger exponent goes with them.
func assembleAny(t *testing.T, p, q *big.Int) []byte {
	t.Helper()
	for e := int64(65537); ; e += 2 {
		if der := assemble(t, e, p, q); der != nil {
			return der
		}
	}
}
