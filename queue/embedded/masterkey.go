package embedded

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const masterKeySize = 32

// MasterKeys returns the keys in dir that seal private keys, and makes one (mode 0600) if there is none. They lie beside
// the store that they seal, so they protect a copied database, not a copied folder. There are several, one a line, while
// a new one takes over: the first is to seal, all are to open. Hold the store open, so that no two processes make one.
func MasterKeys(dir string) ([][]byte, error) {
	path := filepath.Join(dir, "master.key")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := makeMasterKey(path)
		return [][]byte{key}, err
	}
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	var keys [][]byte
	for _, line := range strings.Fields(string(text)) {
		key, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(key) != masterKeySize {
			return nil, fmt.Errorf("master key: %s: line %d is not %d bytes in base64", path, len(keys)+1, masterKeySize)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("master key: %s is empty", path)
	}
	return keys, nil
}

// makeMasterKey writes a new key, whole or not at all: it could not be replaced once a private key was sealed with it.
func makeMasterKey(path string) ([]byte, error) {
	key := make([]byte, masterKeySize)
	rand.Read(key) // never fails
	if err := writeWhole(path, base64.StdEncoding.EncodeToString(key)+"\n"); err != nil {
		return nil, fmt.Errorf("make master key: %w", err)
	}
	return key, nil
}
