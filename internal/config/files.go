package config

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
)

// secretFiles is the names of the files that secrets were read from.
type secretFiles []string

// text returns a value, or the contents of the file that it names by @FILE, and reports whether it names one.
func (f *secretFiles) text(raw string) (text string, isFile bool, err error) {
	file, isFile := strings.CutPrefix(raw, "@")
	if !isFile {
		return raw, false, nil
	}
	*f = append(*f, file)
	text, err = readFile(file)
	return text, true, err
}

// ErrTooLarge is the error of ReadBounded for a file with more bytes than accepted.
var ErrTooLarge = errors.New("the file is too large")

// ReadBounded reads a file of at most so many bytes or, if its name is "-", in. What it returns is the only copy of the bytes.
func ReadBounded(name string, in io.Reader, most int) ([]byte, error) {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text := make([]byte, most+1)
	n, err := io.ReadFull(in, text)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return text[:n], nil
	}
	clear(text)
	return nil, cmp.Or(err, ErrTooLarge)
}

// ExposedFile is a file with a secret that users other than its owner may read.
type ExposedFile struct {
	Name string
	Mode fs.FileMode
}

// ExposedFiles returns the files of tokens, master keys and private keys of TLS that their group or all users may read.
// Windows has no such modes.
func (c *Config) ExposedFiles() (list []ExposedFile) {
	if runtime.GOOS == "windows" {
		return nil
	}
	names := append(slices.Clone(c.secretFiles), c.TLSKeyFile, c.RedisKeyFile)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if name == "" {
			continue
		}
		info, err := os.Stat(name)
		if err == nil && info.Mode().Perm()&0o044 != 0 {
			list = append(list, ExposedFile{name, info.Mode().Perm()})
		}
	}
	return list
}
