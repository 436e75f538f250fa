package config

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestNothingRevealsASecret prints a Config and its parts in every way, and looks for secrets.
func TestNothingRevealsASecret(t *testing.T) {
	key := bytes.Repeat([]byte("K3y!"), 8)
	c := mustParse(t, []string{
		"--api-tokens=ops:hunter2hunter2hunter2",
		"--store=redis://user:hunter2@h:1?password=hunter2",
		"--master-key=" + base64.StdEncoding.EncodeToString(key),
	})
	type hidden struct{ token Token } // fmt calls no methods on unexported fields
	for name, v := range map[string]any{
		"pointer": c, "value": *c, "tokens": c.APITokens, "token": c.APITokens[0], "secrets": c.MasterKey, "secret": c.MasterKey[0], "store": c.Store,
		"hidden": hidden{c.APITokens[0]}, "error": fmt.Errorf("config: %v", c),
	} {
		for how, shown := range shownAs(t, v) {
			for _, secret := range []string{"hunter2", "K3y!", "SzN5I", fmt.Sprintf("%x", "hunter2"), fmt.Sprintf("%x", "K3y!"), "[104 117 "} {
				if strings.Contains(strings.ToLower(shown), strings.ToLower(secret)) {
					t.Errorf("%s by %s tells %s: %s", name, how, secret, shown)
				}
			}
		}
	}
	if c.APITokens[0].Secret.Reveal() != "hunter2hunter2hunter2" || len(c.MasterKey) != 1 || c.MasterKey[0].Reveal() != string(key) {
		t.Error("the secrets got lost")
	}
}

// shownAs prints v with every verb and encoder.
func shownAs(t *testing.T, v any) map[string]string {
	t.Helper()
	shown := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		shown[verb] = fmt.Sprintf(verb, v)
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	shown["json"] = string(text)
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("start", "config", v)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("start", "config", v)
	shown["slog"] = out.String()
	return shown
}

func TestLogLine(t *testing.T) {
	var out bytes.Buffer
	c := mustParse(t, []string{"--api-tokens=ops:" + goodToken, "--allow-private-addresses=::1,10.0.0.0/8"})
	slog.New(slog.NewTextHandler(&out, nil)).Info("start", "config", c)
	for _, want := range []string{
		"config.command=serve", "config.retry-base=15s", "config.api-tokens=ops", "config.store=embedded:./postrider-data",
		"config.allow-private-addresses=::1/128,10.0.0.0/8", "config.master-key=\"\"", "config.log-level=INFO",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in %s", want, &out)
		}
	}
	if strings.Count(out.String(), "\n") != 1 {
		t.Errorf("more than a line: %s", &out)
	}
}

// FuzzStore checks that no error about a store, and no print of one, repeats its password.
func FuzzStore(f *testing.F) {
	f.Add("redis", "u", "", "h:1/0")
	f.Add("rediss", "", "/?#@:,", "h?x=y@z")
	f.Add("redis+sentinel", "", "%2F", "a:1,b:2/m?db=1")
	f.Fuzz(func(t *testing.T, scheme, user, more, rest string) {
		const password = "hunter2"
		if strings.Contains(scheme+rest, password) {
			t.Skip()
		}
		raw := scheme + "://" + user + ":" + password + more + "@" + rest
		_, err := parse(t, []string{"--store=" + raw})
		if shown := redactURL(raw) + fmt.Sprint(err); strings.Contains(shown, password) {
			t.Errorf("password shown: %s", shown)
		}
	})
}
