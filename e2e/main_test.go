package e2e

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"testing"

	"github.com/postrider/postrider/e2e/harness"
)

func TestMain(m *testing.M) {
	harness.AsProgram()
	flag.Parse()
	// These tests wait more than they work, so more of them may run at once than there are processors.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// keyID names the one key that nodes sign with and inboxes verify with.
const keyID = "https://app.example/users/alice#main-key"

var privateKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func publicKey(id string) crypto.PublicKey {
	if id != keyID {
		return nil
	}
	return privateKey().Public()
}

func privatePEM() string { return pemOf(privateKey()) }

func pemOf(key crypto.PrivateKey) string {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// raceDetector reports whether the tests run with the race detector.
func raceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
