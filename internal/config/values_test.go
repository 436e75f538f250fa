package config

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTokens(t *testing.T) {
	long := strings.Repeat("x", 16) + ":=/+~"
	file := writeFile(t, "# ours\nalice:"+goodToken+"\r\n\n  bob:"+long+"\n")
	want := []Token{{"alice", nil, NewSecret(goodToken)}, {"bob", nil, NewSecret(long)}}
	for _, raw := range []string{"@" + file, "alice:" + goodToken + ", bob:" + long + ","} {
		if diff := cmp.Diff(want, mustParse(t, []string{"--api-tokens", raw}).APITokens, showSecrets); diff != "" {
			t.Errorf("%s: %s", raw, diff)
		}
	}
	scoped := mustParse(t, []string{"--api-tokens", "alice/send+read:" + goodToken + ",bob/metrics:" + long}).APITokens
	want = []Token{{"alice", []string{"send", "read"}, NewSecret(goodToken)}, {"bob", []string{"metrics"}, NewSecret(long)}}
	if diff := cmp.Diff(want, scoped, showSecrets); diff != "" {
		t.Errorf("tokens with scopes: %s", diff)
	}
	for _, bad := range []string{
		"alice/:" + goodToken, "alice/write:" + goodToken, "alice/send+send:" + goodToken, "alice/send+:" + goodToken, "/send:" + goodToken,
		"a/send:" + goodToken + ",a/read:" + long,
		goodToken, ":" + goodToken, "alice:" + goodToken[1:], "al ice:" + goodToken, "alice:abcdefgh ijklmnop", "alice:",
		"alice:" + goodToken + "é", "a:" + goodToken + ",a:" + long, "a:" + goodToken + ",b:" + goodToken,
	} {
		_, err := parse(t, []string{"--api-tokens", bad})
		checkUsage(t, err, "api-tokens", "--api-tokens", redacted, "name:token")
		if err != nil && (strings.Contains(err.Error(), "efghijk") || strings.Contains(err.Error(), "xxxx")) {
			t.Errorf("the error tells the token: %v", err)
		}
	}
}

func TestMasterKey(t *testing.T) {
	raw := bytes.Repeat([]byte{0xfb, 0xff}, 16)
	std, urls := base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw)
	other := strings.Repeat("o", 32)
	old := base64.StdEncoding.EncodeToString([]byte(other))
	file := writeFile(t, "# new, old\n"+std+"\r\n\n "+old+"\n")
	for typed, want := range map[string]string{
		std: string(raw), urls: string(raw), "@" + writeFile(t, std+"\n"): string(raw),
		std + "," + old: string(raw) + other, old + ", " + urls: other + string(raw), "@" + file: string(raw) + other,
		old + ",@" + file: other + string(raw) + other, "@" + file + "," + old: string(raw) + other + other,
	} {
		got := ""
		for _, key := range mustParse(t, []string{"--master-key=" + typed}).MasterKey {
			got += key.Reveal()
		}
		if got != want {
			t.Errorf("%s: got %x", typed, got)
		}
	}
	last := mustParse(t, []string{"--master-key=" + old, "--master-key=" + std}).MasterKey
	if len(last) != 1 || last[0].Reveal() != string(raw) {
		t.Errorf("of two flags, %d keys", len(last))
	}
	for _, bad := range []string{
		std[4:], std + "AAAA", "pass phrase", strings.Repeat("!", 44), std + ",", "," + std, std + ",," + std, std + "," + std[4:],
		"@" + file + "," + std[4:], std[4:] + ",@" + file, "@" + file + ",",
	} {
		_, err := parse(t, []string{"--master-key", bad})
		checkUsage(t, err, "master-key", "--master-key", redacted, "32 bytes in base64")
	}
}

func TestStores(t *testing.T) {
	for raw, want := range map[string]struct {
		kind       StoreKind
		shown      string
		partitions int
	}{
		"redis://h":                                      {Standalone, "redis://h", 1},
		"redis://u:hunter2@h:6379/3":                     {Standalone, "redis://@h:6379/3", 1},
		"rediss://:hunter2@[::1]:6379?db=1":              {Standalone, "rediss://@[::1]:6379?…", 1},
		"redis+unix:///run/redis.sock":                   {Socket, "redis+unix:///run/redis.sock", 1},
		"redis+unix://u:hunter2@/r.sock?db=1":            {Socket, "redis+unix://@/r.sock?…", 1},
		"redis+sentinel://a/m?sentinel_password=hunter2": {Sentinel, "redis+sentinel://a/m?…", 1},
		"redis+cluster://u:hunter2@a:1,b:2,c":            {Cluster, "redis+cluster://@a:1,b:2,c", 64},
		"redis+sentinel://:hunter2@a:1,b:2/main":         {Sentinel, "redis+sentinel://@a:1,b:2/main", 1},
	} {
		c := mustParse(t, []string{"--store", raw, "--master-key", goodKey})
		if c.Store.Kind != want.kind || c.Store.String() != want.shown || c.RedisPartitions != want.partitions {
			t.Errorf("%s: got %v of kind %s, %d partitions", raw, c.Store, c.Store.Kind, c.RedisPartitions)
		}
		if c.Store.URL.Reveal() != raw || !c.Store.IsRedis() {
			t.Errorf("%s: URL %q", raw, c.Store.URL.Reveal())
		}
	}
	for _, bad := range []string{
		"redis://:hunter2", "redis://u:hun/hunter2@h", "redis://u:hunter2@h:x", "mysql://u:hunter2@h", "u:hunter2@h",
		"redis://h:x?password=hunter2", "redis://h:x?password=hunter2@hunter2", "redis://u:%hunter2@h", "redis+unix://u:hunter2@", "redis+unix://u:hunter2@h/r.sock", "redis://u:hunter2?@h:x",
	} {
		_, err := parse(t, []string{"--store", bad, "--master-key", goodKey})
		if usage, ok := errors.AsType[*UsageError](err); !ok || strings.Contains(usage.Error(), "hunter2") {
			t.Errorf("%s: got %v", bad, err)
		}
	}
}

func TestPrivateAddresses(t *testing.T) {
	got := mustParse(t, []string{"--allow-private-addresses", "127.0.0.1, ::ffff:10.1.2.3,::ffff:10.0.0.0/104,fd00::1/8"})
	want := []string{"127.0.0.1/32", "10.1.2.3/32", "::ffff:10.0.0.0/104", "fd00::/8"}
	var list []string
	for _, p := range got.AllowPrivateAddresses {
		list = append(list, p.String())
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Error(diff)
	}
	var none []netip.Prefix
	if diff := cmp.Diff(none, mustParse(t, nil).AllowPrivateAddresses); diff != "" {
		t.Error(diff)
	}
}

func TestRootCAs(t *testing.T) {
	if pool, err := mustParse(t, nil).RootCAs(); pool != nil || err != nil {
		t.Errorf("without a file: %v, %v", pool, err)
	}
	cert, file := certificate(t)
	pool, err := mustParse(t, []string{"--ca-file", file}).RootCAs()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: pool}); err != nil {
		t.Errorf("a certificate of the file is not trusted: %v", err)
	}
}

// TestCertificates checks which pairs of files are accepted, and what is read from them.
func TestCertificates(t *testing.T) {
	_, roots := certificate(t)
	cert, key := pair(t)
	_, otherKey := pair(t)
	redis := []string{"--store=rediss://h", "--master-key=" + goodKey}
	for _, c := range []struct {
		args    []string
		setting string // at fault
		says    string
	}{
		{[]string{"--tls-cert-file=" + cert}, "tls-key-file", "want the private key of tls-cert-file"},
		{[]string{"--tls-key-file=" + key}, "tls-cert-file", "want the certificate of tls-key-file"},
		{[]string{"--tls-cert-file=" + cert, "--tls-key-file=" + otherKey}, "tls-cert-file", "private key does not match"},
		{[]string{"--tls-cert-file=/nowhere", "--tls-key-file=" + key}, "tls-cert-file", "/nowhere"},
		{append(redis, "--redis-cert-file="+cert), "redis-key-file", "want the private key"},
		{append(redis, "--redis-ca-file="+key), "redis-ca-file", "certificates in PEM"},
		{[]string{"--store=redis://h", "--master-key=" + goodKey, "--redis-ca-file=" + roots}, "redis-ca-file", "rediss://"},
		{[]string{"--redis-cert-file=" + cert, "--redis-key-file=" + key}, "redis-cert-file", "rediss://"},
	} {
		_, err := parse(t, c.args)
		if usage, ok := errors.AsType[*UsageError](err); !ok || usage.Setting != c.setting || !strings.Contains(usage.Error(), c.says) {
			t.Errorf("%v: %v, want %q of %s", c.args, err, c.says, c.setting)
		}
	}
	c := mustParse(t, append(redis, "--tls-cert-file="+cert, "--tls-key-file="+key, "--redis-ca-file="+roots, "--redis-cert-file="+cert, "--redis-key-file="+key))
	served, err := c.ServerCertificate()
	if err != nil || served == nil {
		t.Errorf("the server's certificate is %v, %v", served, err)
	}
	if secure, err := c.RedisTLS(); err != nil || secure.RootCAs == nil || len(secure.Certificates) != 1 {
		t.Errorf("TLS to Redis is %+v, %v", secure, err)
	}
	mustParse(t, []string{"--store=redis+sentinel://h/m?sentinel_password=x&tls=true", "--master-key=" + goodKey, "--redis-ca-file=" + roots})
	if served, err := mustParse(t, nil).ServerCertificate(); served != nil || err != nil {
		t.Errorf("without a file the certificate is %v, %v", served, err)
	}
}

// pair makes the files of a certificate and its private key.
func pair(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return writeFile(t, text("CERTIFICATE", cert)), writeFile(t, text("PRIVATE KEY", key))
}

// certificate makes a certificate authority and a PEM file of it.
func certificate(t *testing.T) (*x509.Certificate, string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, writeFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}
