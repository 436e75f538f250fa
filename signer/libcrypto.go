//go:build (linux || darwin) && (amd64 || arm64) && !android && !ios && !nolibcrypto

package signer

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

// Constants of OpenSSL 3, from its public headers.
const (
	initLoadConfig  = 0x00000040 // the default too: the machine's openssl.cnf applies
	initNoAtExit    = 0x00080000 // otherwise the program's exit unloads the library under running signatures
	paramUnsigned   = 2          // OSSL_PARAM_UNSIGNED_INTEGER
	selectionPair   = 0x87       // EVP_PKEY_KEYPAIR
	paddingPKCS1v15 = 1          // RSA_PKCS1_PADDING
)

// libcryptoPaths are the names OpenSSL 3 goes by. The loader finds a bare name where the machine keeps its libraries.
// macOS ends any program that loads a libcrypto without a version.
func libcryptoPaths() []string {
	if runtime.GOOS == "darwin" {
		return []string{
			"/opt/homebrew/opt/openssl@3/lib/libcrypto.3.dylib", "/usr/local/opt/openssl@3/lib/libcrypto.3.dylib", "libcrypto.3.dylib",
		}
	}
	return []string{"libcrypto.so.3"}
}

// libcrypto is OpenSSL 3, loaded at run time and never unloaded: it leaves destructors behind for each thread it saw.
type libcrypto struct {
	name string
	md   uintptr // EVP_sha256(), which is constant

	// Addresses of functions.
	initialise, major, minor, patch, sha256 uintptr
	ctxOfName, ctxOfKey, ctxFree            uintptr
	loadInit, load, free                    uintptr
	signInit, padding, digest, sign         uintptr
	getError, errorText, clearErrors        uintptr
}

// openLibcrypto returns the first library of paths that signs as crypto/rsa does, or why there is none, in one line.
func openLibcrypto(paths []string) (RSA, error) {
	var reasons []string
	for _, path := range paths {
		l, err := loadLibcrypto(path)
		if err == nil {
			return l, nil
		}
		reasons = append(reasons, err.Error())
	}
	return nil, errors.New(strings.Join(reasons, "; "))
}

func loadLibcrypto(path string) (*libcrypto, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, err
	}
	l := new(libcrypto)
	if err = l.resolve(handle); err == nil {
		err = l.start()
	}
	if err == nil {
		err = prove(l)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return l, nil
}

func (l *libcrypto) resolve(handle uintptr) error {
	for _, f := range []struct {
		name    string
		address *uintptr
	}{
		{"OPENSSL_version_major", &l.major}, // new in OpenSSL 3: older libraries and the forks are refused here
		{"OPENSSL_version_minor", &l.minor},
		{"OPENSSL_version_patch", &l.patch},
		{"OPENSSL_init_crypto", &l.initialise},
		{"EVP_sha256", &l.sha256},
		{"EVP_PKEY_CTX_new_from_name", &l.ctxOfName},
		{"EVP_PKEY_CTX_new", &l.ctxOfKey},
		{"EVP_PKEY_CTX_free", &l.ctxFree},
		{"EVP_PKEY_fromdata_init", &l.loadInit},
		{"EVP_PKEY_fromdata", &l.load},
		{"EVP_PKEY_free", &l.free},
		{"EVP_PKEY_sign_init", &l.signInit},
		{"EVP_PKEY_CTX_set_rsa_padding", &l.padding},
		{"EVP_PKEY_CTX_set_signature_md", &l.digest},
		{"EVP_PKEY_sign", &l.sign},
		{"ERR_get_error", &l.getError},
		{"ERR_error_string_n", &l.errorText},
		{"ERR_clear_error", &l.clearErrors},
	} {
		address, err := purego.Dlsym(handle, f.name)
		if err != nil {
			return err
		}
		*f.address = address
	}
	return nil
}

// start initialises the library and reads its version.
func (l *libcrypto) start() error {
	major := uint32(call(l.major))
	if major != 3 {
		return fmt.Errorf("is OpenSSL %d, not 3", major)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if !succeeds(l.initialise, initLoadConfig|initNoAtExit, 0) {
		return l.failure("initialise")
	}
	l.name = fmt.Sprintf("openssl %d.%d.%d", major, uint32(call(l.minor)), uint32(call(l.patch)))
	l.md = call(l.sha256)
	return nil
}

func (l *libcrypto) Name() string { return l.name }

// Load gives a key to the library and proves it with one signature, so that a key that was loaded wrongly is found
// before it signs a request. The proof is nearly all of the cost.
func (l *libcrypto) Load(key *rsa.PrivateKey) (RSASigner, error) {
	numbers, err := keyNumbers(key)
	if err != nil {
		return nil, err
	}
	pkey, err := l.loadNumbers(numbers)
	if err != nil {
		return nil, err
	}
	k := &libcryptoKey{lib: l, pkey: pkey, size: key.Size(), ready: new(contexts)}
	runtime.AddCleanup(k, func(ready *contexts) {
		for _, ctx := range ready.free {
			call(l.ctxFree, ctx)
		}
		call(l.free, pkey) // wipes the private numbers
	}, k.ready)
	digest := proofDigest()
	signature, err := k.SignPKCS1v15SHA256(digest)
	if err != nil {
		return nil, err
	}
	if err := rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, digest[:], signature); err != nil {
		return nil, errors.New("libcrypto signs wrongly with this key")
	}
	return k, nil
}

// keyNumber is one number of an RSA key by its name in OpenSSL, which ends in a NUL as C wants it.
type keyNumber struct {
	name  string
	value *big.Int
}

// keyNumbers lists a key's numbers. It checks them again, since a wrong one would crash C code.
func keyNumbers(key *rsa.PrivateKey) ([]keyNumber, error) {
	if len(key.Primes) != 2 {
		return nil, errors.New("key has not two primes")
	}
	numbers := []keyNumber{
		{"n\x00", key.N},
		{"e\x00", big.NewInt(int64(key.E))},
		{"d\x00", key.D},
		{"rsa-factor1\x00", key.Primes[0]},
		{"rsa-factor2\x00", key.Primes[1]},
		{"rsa-exponent1\x00", key.Precomputed.Dp},
		{"rsa-exponent2\x00", key.Precomputed.Dq},
		{"rsa-coefficient1\x00", key.Precomputed.Qinv},
	}
	for _, n := range numbers {
		if n.value == nil || n.value.Sign() <= 0 || n.value.BitLen() > maxRSABits {
			return nil, errors.New("key lacks a number, or one is out of range")
		}
	}
	return numbers, nil
}

// param is an OSSL_PARAM.
type param struct {
	name     *byte
	kind     uint32
	data     *byte
	size     uintptr
	returned uintptr
}

// loadNumbers makes an EVP_PKEY. Reading PKCS#1 or PKCS#8 would be the usual way, but it takes twenty times as long and
// leaves a copy of the key in freed memory (OpenSSL 3.0).
func (l *libcrypto) loadNumbers(numbers []keyNumber) (uintptr, error) {
	params := make([]param, 0, len(numbers)+1)
	for _, n := range numbers {
		data := n.value.Bytes()
		slices.Reverse(data) // the machine's order, on all that this file is built for
		defer clear(data)
		params = append(params, param{unsafe.StringData(n.name), paramUnsigned, &data[0], uintptr(len(data)), 0})
	}
	params = append(params, param{}) // the end

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	algorithm := []byte("RSA\x00")
	ctx := call(l.ctxOfName, 0, uintptr(unsafe.Pointer(&algorithm[0])), 0)
	defer call(l.ctxFree, ctx)
	var pkey uintptr
	if ctx == 0 || !succeeds(l.loadInit, ctx) ||
		!succeeds(l.load, ctx, uintptr(unsafe.Pointer(&pkey)), selectionPair, uintptr(unsafe.Pointer(&params[0]))) || pkey == 0 {
		return 0, l.failure("load key")
	}
	return pkey, nil
}

// libcryptoKey is an EVP_PKEY. Once made it isn't changed, so that threads may share it. It is freed when it is
// unreachable.
type libcryptoKey struct {
	lib   *libcrypto
	pkey  uintptr
	size  int // of a signature, in bytes
	ready *contexts
}

// contexts are EVP_PKEY_CTXs of one key that are ready to sign and that no goroutine uses. There are at most as many as
// were in use at once.
type contexts struct {
	mu   sync.Mutex
	free []uintptr // guarded by mu
}

// take takes a context out. It returns 0 if there is none.
func (c *contexts) take() (ctx uintptr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.free) - 1; n >= 0 {
		ctx, c.free = c.free[n], c.free[:n]
	}
	return ctx
}

func (c *contexts) put(ctx uintptr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.free = append(c.free, ctx)
}

// SignPKCS1v15SHA256 signs in a context that signed before, if one is free: to make one costs a twentieth of the
// signature. Such a call needs no thread of its own, which is the dearer the busier the machine is. Go's scheduler runs
// other goroutines meanwhile, so GOMAXPROCS doesn't bound the concurrent signatures; Options.Parallel does.
func (k *libcryptoKey) SignPKCS1v15SHA256(digest [sha256.Size]byte) ([]byte, error) {
	defer runtime.KeepAlive(k)
	signature := make([]byte, k.size)
	ctx := k.ready.take()
	if ctx == 0 || !k.sign(ctx, signature, &digest) {
		call(k.lib.ctxFree, ctx) // it does nothing to 0
		var err error
		if ctx, err = k.signAnew(signature, &digest); err != nil {
			return nil, err
		}
	}
	k.ready.put(ctx)
	return signature, nil
}

// sign signs in a context, and reports whether it could.
func (k *libcryptoKey) sign(ctx uintptr, signature []byte, digest *[sha256.Size]byte) bool {
	size := uintptr(len(signature))
	return succeeds(k.lib.sign, ctx, uintptr(unsafe.Pointer(&signature[0])), uintptr(unsafe.Pointer(&size)),
		uintptr(unsafe.Pointer(digest)), sha256.Size) && size == uintptr(len(signature))
}

// signAnew signs in a new context, which it returns.
func (k *libcryptoKey) signAnew(signature []byte, digest *[sha256.Size]byte) (ctx uintptr, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	l := k.lib
	call(l.clearErrors) // those of a context that failed before
	ctx = call(l.ctxOfKey, k.pkey, 0)
	if ctx == 0 || !succeeds(l.signInit, ctx) || !succeeds(l.padding, ctx, paddingPKCS1v15) || !succeeds(l.digest, ctx, l.md) ||
		!k.sign(ctx, signature, digest) {
		call(l.ctxFree, ctx)
		return 0, l.failure("sign")
	}
	return ctx, nil
}

// failure makes an error of the first one in the thread's queue and empties the queue. The goroutine must have been
// locked to its thread since before the call that failed.
func (l *libcrypto) failure(what string) error {
	text := make([]byte, 256)
	call(l.errorText, call(l.getError), uintptr(unsafe.Pointer(&text[0])), uintptr(len(text)))
	call(l.clearErrors)
	reason, _, _ := bytes.Cut(text, []byte{0})
	return fmt.Errorf("libcrypto: %s: %s", what, reason)
}

// succeeds calls a C function that returns the int 1 when all went well.
//
//go:uintptrescapes
func succeeds(fn uintptr, args ...uintptr) bool {
	return int32(call(fn, args...)) == 1
}

// call calls a C function. Memory of Go is safe as an argument where its pointer is converted in the call itself.
//
//go:uintptrescapes
func call(fn uintptr, args ...uintptr) uintptr {
	result, _, _ := purego.SyscallN(fn, args...)
	return result
}
