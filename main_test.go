package main

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
	"time"
)

// asProgram is the variable by which a test that needs a process of its own starts this binary as the program: it is
// the same code as go build makes of the package, race detector included where the tests have it.
const asProgram = "E2E_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
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

func pemOf(key *rsa.PrivateKey) string {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// patience is how long what has to happen may take on a busy machine. No test is about how quick anything is.
const patience = 60 * time.Second

// eventually waits until cond holds, and ends the test if it never does.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// raceDetector tells whether the tests run with the race detector.
func raceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
