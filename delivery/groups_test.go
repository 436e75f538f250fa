package delivery

import "testing"

func TestGroupOf(t *testing.T) {
	for host, want := range map[string]string{
		"example.com":            "example.com",
		"a.b.example.com:8443":   "example.com",
		"evil.co.uk":             "evil.co.uk",
		"a.evil.co.uk":           "evil.co.uk",
		"someone.github.io":      "github.io",
		"else.someone.github.io": "github.io",
		"mine.s3.amazonaws.com":  "amazonaws.com",
		"h1.example":             "h1.example",
		"sub.h1.example":         "h1.example",
		"co.uk":                  "co.uk",
		"single":                 "single",
		"192.0.2.7:1234":         "192.0.2.7",
		"[2001:db8:1:2::3]:1234": "2001:db8:1::/48",
		"[2001:db8:1:ffff::]":    "2001:db8:1::/48",
		"127.0.0.1:1234":         "127.0.0.1:1234",
		"10.0.0.1":               "10.0.0.1",
		"[::1]:9":                "[::1]:9",
		"xn--bcher-kva.example.": "xn--bcher-kva.example",
	} {
		if got := groupOf(host); got != want {
			t.Errorf("%s is of the group %s, want %s", host, got, want)
		}
	}
}
