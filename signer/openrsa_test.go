package signer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOpenRSAWithoutLibcrypto goes through the choices where there is no libcrypto to load, for one reason or another.
func TestOpenRSAWithoutLibcrypto(t *testing.T) {
	text := filepath.Join(t.TempDir(), "libcrypto.so.3")
	if err := os.WriteFile(text, []byte("not a library\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, paths := range map[string][]string{
		"missing":         {filepath.Join(t.TempDir(), "libcrypto.so.3")},
		"a text file":     {text},
		"a folder":        {t.TempDir()},
		"another library": {"libc.so.6"},
		"several":         {text, "libm.so.6"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, c := range []struct{ choice, backend, note, err string }{
				{"go", "go", "", ""},
				{"auto", "go", "libcrypto is not used: ", ""},
				{"openssl", "", "", "signing by openssl: "},
			} {
				backend, note, err := openRSA(c.choice, paths)
				if c.backend == "" && (backend != nil || err == nil || !strings.HasPrefix(err.Error(), c.err)) ||
					c.backend != "" && (err != nil || backend.Name() != c.backend) || !strings.HasPrefix(note, c.note) {
					t.Errorf("%s: back-end %v, note %q, error %v", c.choice, backend, note, err)
				}
				if (note != "") != (c.note != "") || strings.Contains(note, "\n") {
					t.Errorf("%s: note %q", c.choice, note)
				}
			}
		})
	}
}

func TestOpenRSA(t *testing.T) {
	want := libcryptoOf(t).Name()
	for _, c := range []struct{ choice, backend string }{{"go", "go"}, {"auto", want}, {"openssl", want}} {
		backend, note, err := OpenRSA(c.choice)
		if err != nil || note != "" || backend.Name() != c.backend {
			t.Errorf("%s: back-end %v, note %q, error %v", c.choice, backend, note, err)
			continue
		}
		if err := prove(backend); err != nil {
			t.Errorf("%s: %v", c.choice, err)
		}
	}
	// The first that can't be used doesn't hide the next.
	if backend, note, err := openRSA("auto", append([]string{"libc.so.6"}, libcryptoPaths()...)); err != nil || backend.Name() != want {
		t.Errorf("second of the paths: back-end %v, note %q, error %v", backend, note, err)
	}
	if backend, _, err := OpenRSA("rust"); backend != nil || err == nil || !strings.Contains(err.Error(), `"rust"`) {
		t.Errorf("no such choice: back-end %v, error %v", backend, err)
	}
}

func TestProve(t *testing.T) {
	if err := prove(GoRSA()); err != nil {
		t.Error(err)
	}
	if err := prove(failingRSA{}); !errors.Is(err, errLoad) {
		t.Errorf("one that can't load: %v", err)
	}
	if err := prove(echoRSA{}); err == nil || !strings.Contains(err.Error(), "differently from crypto/rsa") {
		t.Errorf("one that signs wrongly: %v", err)
	}
}

// TestEitherRSA takes the second back-end for what the first can't load, and only then.
func TestEitherRSA(t *testing.T) {
	for _, c := range []struct {
		backend eitherRSA
		name    string
		want    RSASigner
	}{
		{eitherRSA{echoRSA{}, GoRSA()}, "echo", echoRSA{}},
		{eitherRSA{failingRSA{}, echoRSA{}}, "failing", echoRSA{}},
	} {
		got, err := c.backend.Load(rawRSA(rsaKey()))
		if err != nil || got != c.want || c.backend.Name() != c.name {
			t.Errorf("%s: signer %v, error %v", c.backend.Name(), got, err)
		}
	}
	if _, err := (eitherRSA{failingRSA{}, failingRSA{}}).Load(rawRSA(rsaKey())); !errors.Is(err, errLoad) {
		t.Errorf("neither: %v", err)
	}
}
