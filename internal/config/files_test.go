package config

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestExposedFiles checks that files of secrets that users other than their owner may read are named, and no others.
func TestExposedFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tokens := func(mode os.FileMode) string {
		return "--api-tokens=@" + file(fmt.Sprintf("tokens%o", mode), "ops:"+goodToken, mode)
	}
	keys := func(mode os.FileMode) string {
		return "--master-key=@" + file(fmt.Sprintf("keys%o", mode), goodKey, mode)
	}
	for _, c := range []struct {
		args []string
		want []ExposedFile
	}{
		{[]string{tokens(0o600), keys(0o400)}, nil},
		{[]string{tokens(0o640), "--ca-file="}, []ExposedFile{{filepath.Join(dir, "tokens640"), 0o640}}},
		{[]string{keys(0o604)}, []ExposedFile{{filepath.Join(dir, "keys604"), 0o604}}},
		{nil, nil},
	} {
		if diff := cmp.Diff(c.want, mustParse(t, c.args).ExposedFiles()); diff != "" {
			t.Errorf("%v: %s", c.args, diff)
		}
	}
	c := &Config{TLSKeyFile: file("tls.key", "", 0o644), RedisKeyFile: file("redis.key", "", 0o600)}
	if diff := cmp.Diff([]ExposedFile{{c.TLSKeyFile, 0o644}}, c.ExposedFiles()); diff != "" {
		t.Error(diff)
	}
}
