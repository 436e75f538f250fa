package signer

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
)

// rsaNumbers is RSAPrivateKey of RFC 8017, appendix A.1.2.
type rsaNumbers struct {
	Version       int
	N, E, D, P, Q *big.Int
	DP, DQ, QInv  *big.Int
	Others        []asn1.RawValue `asn1:"optional,omitempty"` // of keys with more than two primes
}

// checkRSA refuses an RSA key in PKCS#1 that is weak or broken. It is stricter than crypto/rsa, which doesn't test the
// primes and doesn't compare D, and it can name the fault. It takes some milliseconds, so only new keys are checked.
func checkRSA(der []byte) error {
	var k rsaNumbers
	if rest, err := asn1.Unmarshal(der, &k); err != nil || len(rest) > 0 {
		return refuse("it isn't an RSA key in PKCS#1")
	}
	for _, n := range []*big.Int{k.N, k.E, k.D, k.P, k.Q, k.DP, k.DQ, k.QInv} {
		if n.Sign() <= 0 {
			return refuse("one of its numbers is zero or negative")
		}
	}
	if err := k.checkPublic(); err != nil {
		return err
	}
	if err := k.checkPrimes(); err != nil {
		return err
	}
	return k.checkPrivate()
}

func (k *rsaNumbers) checkPublic() error {
	bits := k.N.BitLen()
	switch {
	case bits < minRSABits || bits > maxRSABits:
		return refuse(fmt.Sprintf("it is RSA of %d bits", bits))
	case k.E.Bit(0) == 0:
		return refuse("its public exponent is even")
	case k.E.Cmp(big.NewInt(minExponent)) < 0:
		return refuse("its public exponent is below 65537")
	case k.E.BitLen() > 31:
		return refuse("its public exponent is 2^31 or above") // crypto/rsa and some receivers don't support it
	}
	return nil
}

// minPrimeBits is far above what elliptic curves can factor out, and below the primes of unusual but sound keys.
const minPrimeBits = 640

// checkPrimes tests the primes by a probabilistic test; no composite number is known that passes it. FIPS 186-5, appendix
// A.1.3, says how close they may be.
func (k *rsaNumbers) checkPrimes() error {
	distance := new(big.Int).Sub(k.P, k.Q)
	switch {
	case k.Version != 0 || len(k.Others) > 0:
		return refuse("it is RSA of more than two primes")
	case new(big.Int).Mul(k.P, k.Q).Cmp(k.N) != 0:
		return refuse("its modulus isn't the product of its primes")
	case min(k.P.BitLen(), k.Q.BitLen()) < minPrimeBits:
		return refuse("one of its primes is too small")
	case distance.BitLen() <= k.N.BitLen()/2-100:
		return refuse("its primes are too close to one another")
	case !k.P.ProbablyPrime(0) || !k.Q.ProbablyPrime(0):
		return refuse("one of its primes is no prime")
	}
	return nil
}

// checkPrivate compares the private exponent, and the numbers derived from it, with the public one.
func (k *rsaNumbers) checkPrivate() error {
	one := big.NewInt(1)
	lessP := new(big.Int).Sub(k.P, one)
	lessQ := new(big.Int).Sub(k.Q, one)
	product := new(big.Int).Mul(k.D, k.E)
	for _, less := range []*big.Int{lessP, lessQ} {
		if new(big.Int).Mod(product, less).Cmp(one) != 0 {
			return refuse("its private exponent doesn't belong to the public one")
		}
	}
	if new(big.Int).Mod(k.D, lessP).Cmp(k.DP) != 0 || new(big.Int).Mod(k.D, lessQ).Cmp(k.DQ) != 0 ||
		new(big.Int).Mod(new(big.Int).Mul(k.QInv, k.Q), k.P).Cmp(one) != 0 {
		return refuse("the numbers it has for speed (CRT) don't belong to it")
	}
	return nil
}

// pkcs8Info is PrivateKeyInfo of RFC 5208, section 5, without its attributes.
type pkcs8Info struct {
	Version   int
	Algorithm pkix.AlgorithmIdentifier
	Key       []byte
}

// checkPKCS8 is checkRSA for a key in PKCS#8, if it is an RSA key.
func checkPKCS8(der []byte) error {
	var info pkcs8Info
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		return refuse("its PKCS#8 is damaged")
	}
	defer clear(info.Key)
	if !info.Algorithm.Algorithm.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}) { // rsaEncryption
		return nil
	}
	return checkRSA(info.Key)
}
