package config

import "testing"

func TestDialAddress(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:8080":     "127.0.0.1:8080",
		"192.0.2.1:8080":     "192.0.2.1:8080",
		"[2001:db8::1]:8080": "[2001:db8::1]:8080",
		"localhost:8080":     "localhost:8080",
		":8080":              "localhost:8080",
		"0.0.0.0:8080":       "127.0.0.1:8080",
		"[::ffff:0.0.0.0]:1": "127.0.0.1:1",
		"[::]:8080":          "localhost:8080",
		"[0:0::0]:8080":      "localhost:8080",
	} {
		if got := (&Config{Listen: listen}).DialAddress(); got != want {
			t.Errorf("%s is dialled at %s, want %s", listen, got, want)
		}
	}
}
