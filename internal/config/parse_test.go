package config

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const goodToken = "abcdefghijklmnop" // 16 characters, the fewest

var goodKey = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, 32))

const goodHook = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// parse parses with an environment of NAME=value pairs.
func parse(t *testing.T, args []string, environ ...string) (*Config, error) {
	t.Helper()
	env := map[string]string{}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	return Parse(args, lookup, io.Discard, io.Discard)
}

func mustParse(t *testing.T, args []string, environ ...string) *Config {
	t.Helper()
	c, err := parse(t, args, environ...)
	if err != nil {
		t.Fatalf("Parse(%q) with %q: %v", args, environ, err)
	}
	return c
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// published is the documented table of settings, with another accepted value for each.
var published = []struct {
	name     string
	standard any // the default, as found in Config
	other    string
	want     any
}{
	{"listen", "127.0.0.1:8080", "[::1]:0", "[::1]:0"},
	{"api-tokens", "", "ops:" + goodToken, "ops"},
	{"tls-cert-file", "", "", ""},
	{"tls-key-file", "", "", ""},
	{"store", "embedded:./postrider-data", "embedded:/var/lib/x", "embedded:/var/lib/x"},
	{"redis-ca-file", "", "", ""},
	{"redis-cert-file", "", "", ""},
	{"redis-key-file", "", "", ""},
	{"redis-prefix", "postrider", "other", "other"},
	{"redis-partitions", 1, "8", 8},
	{"master-key", "", goodKey + "," + goodKey, redacted + "," + redacted},
	{"deliver", true, "false", false},
	{"concurrency", 512, "65536", 65536},
	{"host-concurrency", 8, "256", 256},
	{"attempt-timeout", "30s", "40s", "40s"},
	{"connect-timeout", "5s", "6s", "6s"},
	{"dns-timeout", "10s", "4s", "4s"},
	{"delivery-ttl", "72h0m0s", "48h", "48h0m0s"},
	{"retry-base", "15s", "1ms", "1ms"},
	{"max-attempts", 17, "3", 3},
	{"breaker-threshold", 10, "5", 5},
	{"breaker-cool-off", "1m0s", "2m", "2m0s"},
	{"breaker-cool-off-max", "1h0m0s", "2h", "2h0m0s"},
	{"unavailable-days", 7, "14", 14},
	{"lease-ttl", "30s", "1s", "1s"},
	{"activity-retention", "72h0m0s", "24h", "24h0m0s"},
	{"dead-letter-retention", "720h0m0s", "1h", "1h0m0s"},
	{"dead-letter-cap", 1000000, "0", 0},
	{"lane-cap", 1000000, "5000", 5000},
	{"feed-retention", "72h0m0s", "1h", "1h0m0s"},
	{"feed-cap", 1000000, "0", 0},
	{"feed-delivered", false, "true", true},
	{"webhook-url", "", "http://app:3000/hook?x=1", "http://app:3000/hook?x=1"},
	{"webhook-secret", NewSecret(""), goodHook, NewSecret(goodHook)},
	{"webhook-types", "dead,host_state,activity_done", "delivered, dead", "delivered,dead"},
	{"allow-private-addresses", "", "10.1.2.3/8,::1", "10.0.0.0/8,::1/128"},
	{"deny-addresses", "", "2a01:64::/96,192.0.2.1", "2a01:64::/96,192.0.2.1/32"},
	{"allow-http", false, "true", true},
	{"ca-file", "", "", ""},
	{"user-agent", "Postrider/" + BuildVersion(), "X/1 (+https://x.example/)", "X/1 (+https://x.example/)"},
	{"signing", "auto", "openssl", "openssl"},
	{"log-level", "INFO", "debug", "DEBUG"},
	{"log-format", "auto", "json", "json"},
	{"shutdown-timeout", "25s", "5s", "5s"},
}

// value returns a setting of c as it is logged.
func value(c *Config, name string) any {
	for f := range settings() {
		if f.Tag.Get("name") == name {
			return logged(reflect.ValueOf(*c).FieldByIndex(f.Index).Interface())
		}
	}
	return "no such setting"
}

var showSecrets = cmp.Comparer(func(a, b Secret) bool { return a.Reveal() == b.Reveal() })

func TestEverySettingIsFlagAndVariable(t *testing.T) {
	count := 0
	for range settings() {
		count++
	}
	if count != len(published) {
		t.Errorf("%d settings, %d published", count, len(published))
	}
	standard := mustParse(t, nil)
	for _, s := range published {
		if diff := cmp.Diff(s.standard, value(standard, s.name), showSecrets); diff != "" {
			t.Errorf("default of %s: %s", s.name, diff)
		}
		var needs []string
		if s.name == "webhook-url" {
			needs = []string{"--webhook-secret=" + goodHook}
		}
		flags := append(needs, "--"+s.name+"="+s.other)
		for how, c := range map[string]*Config{
			"flag":           mustParse(t, flags),
			"variable":       mustParse(t, needs, variable(s.name)+"="+s.other),
			"flag over both": mustParse(t, flags, variable(s.name)+"=rubbish"),
		} {
			if diff := cmp.Diff(s.want, value(c, s.name), showSecrets); diff != "" {
				t.Errorf("%s by %s: %s", s.name, how, diff)
			}
		}
		empty := mustParse(t, nil, variable(s.name)+"=")
		if diff := cmp.Diff(s.standard, value(empty, s.name), showSecrets); diff != "" {
			t.Errorf("%s by empty variable: %s", s.name, diff)
		}
	}
}

func TestWebhook(t *testing.T) {
	file := "@" + writeFile(t, "# of the app\n"+goodHook+"\n")
	c := mustParse(t, []string{"--webhook-url=http://app:3000/hook", "--webhook-secret=" + file, "--webhook-types=delivered"})
	if c.WebhookSecret.Reveal() != goodHook || !c.FeedDelivered {
		t.Errorf("the secret was read as %q, and entries of deliveries are kept: %t", c.WebhookSecret.Reveal(), c.FeedDelivered)
	}
	if mustParse(t, []string{"--webhook-types=delivered"}).FeedDelivered {
		t.Error("entries of deliveries are kept for no webhook")
	}
	_, err := parse(t, []string{"--webhook-url=http://app:3000/hook"})
	checkUsage(t, err, "webhook-secret", "default", "", "for webhook-url")
	for _, secret := range []string{"hunter2hunter2hunter2", "whsec_aHVudGVyMg==", goodHook[len("whsec_"):], "whsec_" + strings.Repeat("A", 88)} {
		_, err := parse(t, []string{"--webhook-secret=" + secret})
		checkUsage(t, err, "webhook-secret", "--webhook-secret", redacted, "24 to 64 bytes")
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
}

func TestVariableName(t *testing.T) {
	if got := variable("retry-base"); got != "POSTRIDER_RETRY_BASE" {
		t.Errorf("variable of retry-base is %s", got)
	}
}

func TestCommands(t *testing.T) {
	for _, test := range []struct {
		args []string
		want Command
		exit bool
	}{
		{nil, Serve, false},
		{[]string{"--retry-base", "1s"}, Serve, false},
		{[]string{"serve"}, Serve, false},
		{[]string{"demo"}, Demo, false},
		{[]string{"demo", "--exit"}, Demo, true},
		{[]string{"--allow-http", "demo", "--exit", "--retry-base=1s"}, Demo, true},
		{[]string{"version"}, Version, false},
		{[]string{"--version"}, Version, false},
		{[]string{"version", "--listen", ":80"}, Version, false},
		{[]string{"keys", "list"}, Keys, false},
		{[]string{"--store=redis://h", "--listen=:80", "keys", "remove", "k"}, Keys, false},
		{[]string{"healthcheck", "--listen", ":80", "--store", "redis://h"}, Healthcheck, false},
	} {
		c := mustParse(t, test.args)
		if c.Command != test.want || c.DemoExit != test.exit {
			t.Errorf("%q: command %s, exit %t", test.args, c.Command, c.DemoExit)
		}
	}
	if c := mustParse(t, []string{"--allow-http", "demo"}); !c.AllowHTTP {
		t.Error("a switch without a value is off")
	}
	if c := mustParse(t, []string{"demo"}, "POSTRIDER_EXIT=true", "POSTRIDER_HELP=true"); c.DemoExit {
		t.Error("the flag of a command was read from the environment")
	}
}

func TestBadValues(t *testing.T) {
	file := "@" + writeFile(t, "# none\n\n")
	absent := filepath.Join(t.TempDir(), "absent")
	for _, test := range []struct{ name, value, accepted string }{
		{"listen", "8080", "HOST:PORT"},
		{"listen", "127.0.0.1:99999", "HOST:PORT"},
		{"listen", "127.0.0.1:http", "HOST:PORT"},
		{"listen", "::1:8080", "HOST:PORT"},
		{"listen", ":8080", "loopback"},
		{"listen", "0.0.0.0:8080", "loopback"},
		{"listen", "[::]:8080", "loopback"},
		{"listen", "192.0.2.1:8080", "loopback"},
		{"listen", "[::ffff:192.0.2.1]:8080", "loopback"},
		{"listen", "localhost.example:8080", "loopback"},
		{"api-tokens", file, "16 visible"},
		{"api-tokens", "@" + absent, "no such file"},
		{"store", "./data", "embedded:DIR"},
		{"store", "embedded:", "embedded:DIR"},
		{"store", "postgres://h/db", "redis+cluster://"},
		{"store", "redis://", "redis://HOST:PORT"},
		{"store", "redis://h:0", "redis://HOST:PORT"},
		{"store", "redis://h:x", "redis://HOST:PORT"},
		{"store", "redis://a:1,b:2", "redis://HOST:PORT"},
		{"store", "redis://h:1/db", "database number"},
		{"store", "redis+cluster://a:1,", "redis+cluster://"},
		{"store", "redis+cluster://a:1/2", "database number"},
		{"store", "redis+sentinel://a:1,b:2", "MASTER"},
		{"redis-prefix", "a{b}", "letters"},
		{"redis-prefix", "", "letters"},
		{"redis-partitions", "0", "from 1 to 16384"},
		{"master-key", "@" + absent, "no such file"},
		{"master-key", file, "32 bytes"},
		{"master-key", file + "," + file, "32 bytes"},
		{"concurrency", "0", "from 1 to 65536"},
		{"concurrency", "65537", "from 1 to 65536"},
		{"concurrency", "1e3", "from 1 to 65536"},
		{"host-concurrency", "257", "from 1 to 256"},
		{"host-concurrency", "-1", "from 1 to 256"},
		{"attempt-timeout", "30", "positive duration"},
		{"delivery-ttl", "-1h", "positive duration"},
		{"retry-base", "0s", "positive duration"},
		{"retry-base", "abc\ndef", "positive duration"},
		{"retry-base", "", "positive duration"},
		{"max-attempts", "many", "from 1 to 1000"},
		{"breaker-threshold", "0", "from 1 to 10000"},
		{"unavailable-days", "0", "from 1 to 365"},
		{"lease-ttl", "99ms", "at least 100ms, such as 30s"},
		{"activity-retention", "23h59m", "at least 24h"},
		{"dead-letter-retention", "0s", "positive duration"},
		{"dead-letter-cap", "-1", "whole number from 0"},
		{"lane-cap", "many", "whole number from 0"},
		{"feed-retention", "0s", "positive duration"},
		{"feed-cap", "-1", "whole number from 0"},
		{"webhook-url", "ftp://app/hook", "a URL such as"},
		{"webhook-url", "app:3000", "a URL such as"},
		{"webhook-secret", "@" + absent, "no such file"},
		{"webhook-secret", file, "whsec_"},
		{"webhook-types", "dead,born", "host_state"},
		{"webhook-types", "", "host_state"},
		{"allow-private-addresses", "10.0.0.0/33", "CIDR"},
		{"allow-private-addresses", "10.0.0.0/8,localhost", "CIDR"},
		{"allow-private-addresses", "fe80::1%eth0", "CIDR"},
		{"allow-http", "maybe", "true or false"},
		{"ca-file", absent, "no such file"},
		{"ca-file", file[1:], "no certificate"},
		{"user-agent", "", "printable"},
		{"user-agent", "a\r\nb: c", "printable"},
		{"user-agent", "Pöstrider", "printable"},
		{"signing", "rust", "auto, go, openssl"},
		{"log-level", "loud", "debug, info, warn or error"},
		{"log-format", "xml", "auto, text, json"},
		{"shutdown-timeout", "never", "positive duration"},
	} {
		_, err := parse(t, []string{"--" + test.name + "=" + test.value})
		checkUsage(t, err, test.name, "--"+test.name, test.value, test.accepted)
		if test.value != "" {
			_, err = parse(t, nil, variable(test.name)+"="+test.value)
			checkUsage(t, err, test.name, variable(test.name), test.value, test.accepted)
		}
	}
}

// checkUsage requires a *UsageError of one line with all of the parts in it.
func checkUsage(t *testing.T, err error, setting, source, typed, accepted string) {
	t.Helper()
	usage, ok := errors.AsType[*UsageError](err)
	if !ok {
		t.Errorf("%s=%q: got %v, want a *UsageError", setting, typed, err)
		return
	}
	if usage.ExitCode() != 2 {
		t.Errorf("%s=%q: exit code %d", setting, typed, usage.ExitCode())
	}
	if usage.Setting != setting || usage.Source != source || usage.Value != typed {
		t.Errorf("%s=%q from %s: got %#v", setting, typed, source, usage)
	}
	line := usage.Error()
	for _, part := range []string{setting, source, accepted} {
		if !strings.Contains(line, part) {
			t.Errorf("%s=%q: no %q in %q", setting, typed, part, line)
		}
	}
	if strings.ContainsAny(line, "\r\n\t") {
		t.Errorf("%s=%q: more than a line: %q", setting, typed, line)
	}
}

func TestBadCommandLines(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"fly"}, "fly"},
		{[]string{"serve", "now\nor never"}, "now or never"},
		{[]string{"--retry-bas=1s"}, "--retry-base"}, // did you mean
		{[]string{"serve", "--exit"}, "--exit"},
		{[]string{"--retry-base"}, "retry-base"},
		{[]string{"--retry-base", "--allow-http"}, "retry-base"},
		{[]string{"-x"}, "-x"},
	} {
		_, err := parse(t, test.args)
		usage, ok := errors.AsType[*UsageError](err)
		if !ok || !strings.Contains(usage.Error(), test.want) || strings.Contains(usage.Error(), "\n") {
			t.Errorf("%q: got %v, want a line with %s", test.args, err, test.want)
		}
	}
}

func TestCrossChecks(t *testing.T) {
	token := "--api-tokens=ops:" + goodToken
	for _, args := range [][]string{
		{"--listen=localhost:1"}, {"--listen=127.8.9.1:1"}, {"--listen=[::1]:1"}, {"--listen=[::ffff:127.0.0.1]:1"},
		{"--listen=:8080", token}, {"--listen=0.0.0.0:8080", token}, {"--listen=box.example:8080", token},
		{"--attempt-timeout=5s"}, {"--breaker-cool-off=1h"},
		{"--store=redis://h", "--master-key=" + goodKey}, {"demo", "--store=redis://h"},
	} {
		mustParse(t, args)
	}
	_, err := parse(t, []string{"--store=redis://h"})
	checkUsage(t, err, "master-key", "default", "", "32 bytes")
	_, err = parse(t, []string{"demo", "--listen=:80"})
	checkUsage(t, err, "listen", "--listen", ":80", "loopback")
}

func TestAShorterWholeShortensItsPart(t *testing.T) {
	c := mustParse(t, []string{"--attempt-timeout=2s", "--breaker-cool-off-max=10s"})
	if c.ConnectTimeout != 2*time.Second || c.BreakerCoolOff != 10*time.Second {
		t.Errorf("connect-timeout %v, breaker-cool-off %v; want 2s and 10s", c.ConnectTimeout, c.BreakerCoolOff)
	}
	c = mustParse(t, []string{"--connect-timeout=1s", "--breaker-cool-off=2s"})
	if c.ConnectTimeout != time.Second || c.BreakerCoolOff != 2*time.Second {
		t.Errorf("connect-timeout %v, breaker-cool-off %v; want 1s and 2s", c.ConnectTimeout, c.BreakerCoolOff)
	}
}

func TestUnknownVariables(t *testing.T) {
	got := UnknownVariables([]string{
		"HOME=/", "POSTRIDER_RETRY_BASE=1s", "POSTRIDER_RETYR_BASE=1s", "POSTRIDER_=", "postrider_listen=x",
		"POSTRIDER_TOKEN=x", "POSTRIDER_URL=x", "POSTRIDER_PORT=tcp://10.0.0.1:80", "POSTRIDER_PORT_80_TCP=x", "POSTRIDER_SERVICE_HOST=10.0.0.1",
	})
	if diff := cmp.Diff([]string{"POSTRIDER_RETYR_BASE", "POSTRIDER_"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestNewLogger(t *testing.T) {
	for _, test := range []struct {
		format string
		tty    bool
		json   bool
	}{{"auto", true, false}, {"auto", false, true}, {"text", false, false}, {"json", true, true}} {
		var out bytes.Buffer
		logger := NewLogger(test.format, slog.LevelWarn, &out, test.tty)
		logger.Info("quiet")
		logger.Warn("loud")
		if strings.HasPrefix(out.String(), "{") != test.json || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%s, terminal %t: %s", test.format, test.tty, &out)
		}
	}
}

// TestBackup checks the command's file, and that it requires an embedded store but no other setting of a node.
func TestBackup(t *testing.T) {
	c := mustParse(t, []string{"backup", "--store=embedded:x", "--listen=0.0.0.0:80", "to.db"})
	if c.Command != Backup || c.BackupTo != "to.db" || c.Store.Dir != "x" {
		t.Errorf("read as %s of %v to %q", c.Command, c.Store, c.BackupTo)
	}
	_, err := parse(t, []string{"backup", "--store=redis://u:hunter2@h", "to.db"})
	checkUsage(t, err, "store", "--store", "redis://@h", "embedded:DIR")
	if _, err := parse(t, []string{"backup"}); err == nil || !strings.Contains(err.Error(), "<file>") {
		t.Errorf("without a file: %v", err)
	}
}
