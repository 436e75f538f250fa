package redisq

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseURL(t *testing.T) {
	for raw, want := range map[string]address{
		"redis://localhost":          {scheme: "redis", hosts: []string{"localhost:6379"}},
		"redis://:pa%40ss@h:7000/2":  {scheme: "redis", hosts: []string{"h:7000"}, password: "pa@ss", path: "2"},
		"rediss://bob:x@h/":          {scheme: "rediss", hosts: []string{"h:6379"}, user: "bob", password: "x", tls: true},
		"redis://[::1]":              {scheme: "redis", hosts: []string{"[::1]:6379"}},
		"redis://[::1]:7000":         {scheme: "redis", hosts: []string{"[::1]:7000"}},
		"redis+cluster://a,b:7001":   {scheme: "redis+cluster", hosts: []string{"a:6379", "b:7001"}},
		"redis+cluster://a?tls=true": {scheme: "redis+cluster", hosts: []string{"a:6379"}, tls: true},
		"redis+sentinel://a,b/main":  {scheme: "redis+sentinel", hosts: []string{"a:26379", "b:26379"}, path: "main"},
		"redis+sentinel://a/main?sentinel_username=w&sentinel_password=%26%3D+&tls=true": {
			scheme: "redis+sentinel", hosts: []string{"a:26379"}, path: "main", tls: true, sentinelUser: "w", sentinelPassword: "&=+",
		},
		"redis+unix:///run/re%20dis.sock":       {scheme: "redis+unix", hosts: []string{"/run/re dis.sock"}},
		"redis+unix://u:p@/run/redis.sock?db=3": {scheme: "redis+unix", hosts: []string{"/run/redis.sock"}, user: "u", password: "p", path: "3"},
		"redis://localhost?tls=false":           {scheme: "redis", hosts: []string{"localhost:6379"}},
	} {
		got, err := parseAddress(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(address{})); diff != "" {
			t.Errorf("%s is read otherwise (-want +got):\n%s", raw, diff)
		}
	}
	o, err := parseURL("redis+sentinel://u:p@a,b/main/3", nil)
	if err != nil || o.Sentinel.MasterSet != "main" || o.SelectDB != 3 || o.Username != "u" || o.Password != "p" {
		t.Errorf("the sentinel's options are %+v, %v", o, err)
	}
}

func TestParseURLRefuses(t *testing.T) {
	for _, raw := range []string{
		"", "redis", "http://a", "redis://", "redis://:sesame@", "redis://:ses%zzame@a", "redis://:sesame@a/x",
		"redis://:sesame@a/-1", "redis://:sesame@a?db=1", "redis+cluster://a,,b", "redis+sentinel://:sesame@a/main/x",
		"redis+unix://", "redis+unix:///", "redis+unix://a/b", "redis+unix:///a?db=x", "redis+unix:///a?tls=true", "redis+unix:///ses%zzame",
		"redis+cluster://a?sentinel_password=sesame", "redis+sentinel://a/main?sentinel_password=ses%zzame",
		"redis+sentinel://a/main?sentinel_password=x&sentinel_password=sesame", "redis://a?tls=maybe",
	} {
		_, err := parseURL(raw, nil)
		if err == nil {
			t.Errorf("%q was accepted", raw)
		} else if strings.Contains(err.Error(), "ses") && strings.Contains(err.Error(), "ame") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{"redis://u:p@h:1/2?tls=true", "redis+cluster://a,b:2", "redis+sentinel://[::1]/m/1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		o, err := parseURL(raw, nil)
		if err == nil && len(o.InitAddress) == 0 {
			t.Errorf("%q is accepted without a host", raw)
		}
	})
}
