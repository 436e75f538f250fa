package queue

import (
	"strings"
	"testing"
)

func TestNodeName(t *testing.T) {
	for host, want := range map[string]string{
		"web-1":                 "web-1-",
		"web_1.example.com":     "web_1.example.com-",
		"":                      "node-",
		"\x1b[31m \n\u202e":     "31m-",
		"ж":                     "node-",
		strings.Repeat("x", 99): strings.Repeat("x", MaxNodeName-7) + "-",
	} {
		a, b := nodeName(host), nodeName(host)
		if !strings.HasPrefix(a, want) || len(a) != len(want)+6 || a == b || !ValidNodeName(a) {
			t.Errorf("nodes on %q are named %q and %q, want %s and six digits", host, a, b, want)
		}
	}
}

func TestValidNodeName(t *testing.T) {
	for name, want := range map[string]bool{
		"web-1-3f9a2c": true, "web_1.example-0": true, "2b6d5e4c-1a90-4d1e-8f00-2b6d5e4c1a90": true,
		"": false, "a b": false, "a\n": false, "é": false, "<b>": false, strings.Repeat("x", MaxNodeName+1): false,
	} {
		if got := ValidNodeName(name); got != want {
			t.Errorf("%q is a name: %t, want %t", name, got, want)
		}
	}
}
