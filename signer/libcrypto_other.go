//go:build !((linux || darwin) && (amd64 || arm64) && !android && !ios && !nolibcrypto)

package signer

import (
	"errors"
	"runtime"
)

func libcryptoPaths() []string { return nil }

func openLibcrypto([]string) (RSA, error) {
	return nil, errors.New("this build for " + runtime.GOOS + "/" + runtime.GOARCH + " can't load libcrypto")
}
