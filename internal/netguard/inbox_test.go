package netguard

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// home allows what a node on a home network may deliver to.
var home = NewPolicy([]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("::1/128")})

func TestParseInbox(t *testing.T) {
	tests := []struct{ raw, url, host string }{
		{"https://one.example/inbox", "https://one.example/inbox", "one.example"},
		{"HTTPS://One.EXAMPLE:443/Inbox", "https://one.example/Inbox", "one.example"},
		{"https://one.example:0443/inbox", "https://one.example/inbox", "one.example"},
		{"https://one.example:/inbox", "https://one.example/inbox", "one.example"},
		{"https://one.example:8443/inbox", "https://one.example:8443/inbox", "one.example:8443"},
		{"https://one.example:80/inbox", "https://one.example:80/inbox", "one.example:80"},
		{"http://one.example:80/inbox", "http://one.example/inbox", "one.example"},
		{"http://one.example:443/inbox", "http://one.example:443/inbox", "one.example"},
		{"https://one.example./inbox", "https://one.example/inbox", "one.example"},
		{"https://one.example", "https://one.example/", "one.example"},
		{"https://one.example?a=b", "https://one.example/?a=b", "one.example"},
		{"https://one.example/?", "https://one.example/?", "one.example"},
		{"https://one.example/inbox#main-key", "https://one.example/inbox", "one.example"},
		{"https://one.example/a%2fb%2F%41/../c//d;e=f", "https://one.example/a%2fb%2F%41/../c//d;e=f", "one.example"},
		{"https://one.example//x", "https://one.example//x", "one.example"},
		{"https://one.example/@bob/[1]!$&'()*+,;=:~", "https://one.example/@bob/[1]!$&'()*+,;=:~", "one.example"},
		{"https://one.example/i?q=%zz&r[]={|}^`?/", "https://one.example/i?q=%zz&r[]={|}^`?/", "one.example"},
		{"https://one.example/żółw?ż", "https://one.example/%C5%BC%C3%B3%C5%82w?%C5%BC", "one.example"},
		{"https://Bücher.example/inbox", "https://xn--bcher-kva.example/inbox", "xn--bcher-kva.example"},
		{"https://xn--bcher-kva.example/inbox", "https://xn--bcher-kva.example/inbox", "xn--bcher-kva.example"},
		{"https://faß.example/inbox", "https://xn--fa-hia.example/inbox", "xn--fa-hia.example"},
		{"https://my_host.example/inbox", "https://my_host.example/inbox", "my_host.example"},
		{"https://_My_.Example:8443/inbox", "https://_my_.example:8443/inbox", "_my_.example:8443"},
		{"https://a_b.bücher.example/", "https://a_b.xn--bcher-kva.example/", "a_b.xn--bcher-kva.example"},
		{"https://my_service:3000/inbox", "https://my_service:3000/inbox", "my_service:3000"},
		{"https://one。example/", "https://one.example/", "one.example"},
		{"https://ab--cd.example/", "https://ab--cd.example/", "ab--cd.example"},
		{"https://mastodon:3000/inbox", "https://mastodon:3000/inbox", "mastodon:3000"},
		{"https://pi.local/inbox", "https://pi.local/inbox", "pi.local"},
		{"https://1password.example/", "https://1password.example/", "1password.example"},
		{"https://0x7f.one.example/", "https://0x7f.one.example/", "0x7f.one.example"},
		{"https://127.0.0.1:8443/inbox", "https://127.0.0.1:8443/inbox", "127.0.0.1:8443"},
		{"https://1.1.1.1/inbox", "https://1.1.1.1/inbox", "1.1.1.1"},
		{"https://[0:0:0:0:0:0:0:1]/inbox", "https://[::1]/inbox", "[::1]"},
		{"https://[2606:4700:4700:0::ABCD]:8443/", "https://[2606:4700:4700::abcd]:8443/", "[2606:4700:4700::abcd]:8443"},
	}
	for _, tt := range tests {
		got, refusal := ParseInbox(tt.raw, true, home)
		if refusal != nil {
			t.Errorf("%s: refused: %v", tt.raw, refusal)
			continue
		}
		if diff := cmp.Diff(Inbox{tt.url, tt.host}, got); diff != "" {
			t.Errorf("%s:\n%s", tt.raw, diff)
		}
	}
}

func TestParseInboxRefuses(t *testing.T) {
	tests := map[string][]string{
		ReasonBadURL: {
			"", "/inbox", "one.example/inbox", "//one.example/inbox", "https:/one.example", "https:one.example",
			"https://", "https:///inbox", "https://?x", "https://:443/inbox", "https://./", "https://../", "https://#",
			"ftp://one.example/", "file:///etc/passwd", "mailto:bob@one.example", "javascript://one.example/", "://one.example/",
			"https://bob@one.example/", "https://bob:secret@one.example/", "https://@one.example/", "https://1.1.1.1@one.example/",
			"https://one.example:0/", "https://one.example:65536/", "https://one.example:-1/", "https://one.example:+1/",
			"https://one.example:https/", "https://one.example:80:80/", "https://one.example:８０/",
			" https://one.example/", "https://one.example/ ", "https://one.example/a b", "https://one.example/?a b", "https://one.example/a\tb",
			"https://one.example/\r\nX: y", "https://one.example/\x00", "https://one.example/\x7f", "https://one .example/",
			`https://one.example\@two.example/`, `https:\\one.example\inbox`, `https://one.example/a"b`, "https://one.example/<a>",
			"https://one.example/%", "https://one.example/%zz", "https://one.example/{id}", "https://one.example/a%2Fb|c",
			"https://one.example/\xff", "https://one\xff.example/",
			"https://one..example/", "https://.example/", "https://-a.example/", "https://a-.example/", "https://-_.example/",
			"https://one%2eexample/", "https://one*.example/", "https://one=ü.example/", "https://a(b).example/",
			"https://xn--a.example/", "https://xn--.example/", "https://1.1.1.⒈1/",
			"https://" + strings.Repeat("a", 64) + ".example/", "https://" + strings.Repeat("a.", 127) + "example/",
			`https://one.example/?a\b`, "https://one.example/#" + strings.Repeat("a", MaxURL),
			"https://one.example/" + strings.Repeat("a", MaxURL), "https://one.example/" + strings.Repeat("ż", MaxURL/3),
			"https://[::1/", "https://::1/", "https://[::1]x/", "https://[one.example]/", "https://[127.0.0.1]/", "https://[]/",
			"https://[v1.a]/", "https://[fe80::1%25eth0]/", "https://[fe80::1%eth0]/", "https://[::1]]/", "https://[[::1]/",
			"https://abcdefghij.onion/inbox", "https://some.I2P/inbox",
		},
		ReasonPrivateAddress: {
			"https://127.0.0.2/", "https://10.0.0.1/inbox", "https://169.254.169.254/latest/", "https://0.0.0.0/",
			"https://[::]/", "https://[::ffff:10.0.0.1]/", "https://[::ffff:a00:1]/", "https://[fe80::1]/", "https://[fd00::1]/",
			"https://[64:ff9b::7f00:1]/", "https://[2002:7f00:1::]/", "https://[::7f00:1]/",
			"https://2130706433/", "https://017700000001/", "https://0x7f000001/", "https://0X7F.1/", "https://127.1/",
			"https://127.0.1/", "https://0177.0.0.1/", "https://127.0.0.01/", "https://0x7f.0.0.1/", "https://127.0.0.0x1/",
			"https://127.0.0.1./", "https://1.1.1.1./", "https://127.1./", "https://0/", "https://0x/", "https://256.1.1.1/",
			"https://1.2.3.4.5/", "https://one.example.1/", "https://one.0x7f/",
			"https://１２７.0.0.1/", "https://127。0。0。1/", "https://①②⑦.0.0.1/", "https://1.1.1.１/",
			"https://localhost/", "https://LOCALHOST:8080/", "https://localhost./", "https://a.b.localhost/", "https://a.localhost./",
			"https://ⓛocalhost/", "https://localhost.localdomain/", "https://ip6-localhost/", "https://IP6-loopback./", "https://loopback/",
			"http://localhost/", "http://127.0.0.2/",
		},
		ReasonHTTPNotAllowed: {"http://one.example/inbox", "HTTP://one.example:443/", "http://1.1.1.1/"},
	}
	for reason, raws := range tests {
		for _, raw := range raws {
			got, refusal := ParseInbox(raw, false, home)
			if refusal == nil {
				t.Errorf("%q: accepted as %+v", raw, got)
			} else if refusal.Reason != reason || refusal.Detail == "" || got != (Inbox{}) {
				t.Errorf("%q: got %+v, %+v, want %s", raw, got, refusal, reason)
			}
		}
	}
}

// A password in a URL is a misplaced secret: the answer names the fault and does not repeat it.
func TestParseInboxNamesUserinfo(t *testing.T) {
	_, refusal := ParseInbox("https://bob:secret@one.example/inbox", false, nil)
	if refusal == nil || !strings.Contains(refusal.Detail, "user name") || strings.Contains(refusal.Detail, "secret") {
		t.Errorf("got %v", refusal)
	}
}

func TestNormaliseHost(t *testing.T) {
	tests := []struct{ in, want string }{
		{"One.Example", "one.example"},
		{"one.example:443", "one.example"},
		{"one.example:80", "one.example:80"},
		{"one.example.:8443", "one.example:8443"},
		{"bücher.example", "xn--bcher-kva.example"},
		{"10.0.0.1:3000", "10.0.0.1:3000"},
		{"[::1]:443", "[::1]"},
		{"[FE80::1]", "[fe80::1]"},
		{"mastodon", "mastodon"},
		{"My_Host.example", "my_host.example"},
	}
	for _, tt := range tests {
		if got, err := NormaliseHost(tt.in); err != nil || got != tt.want {
			t.Errorf("%q: got %q, %v, want %q", tt.in, got, err, tt.want)
		}
	}
	for _, in := range []string{
		"", ":443", "https://one.example", "one.example/", "one.example?", "one.example#a", "bob@one.example", "one example",
		"one.example\n", "one.example:0", "::1", "[10.0.0.1]", "[fe80::1%eth0]", "127.1", "localhost", "a*b", "one.example\\", "\xff",
	} {
		if got, err := NormaliseHost(in); err == nil {
			t.Errorf("%q: accepted as %q", in, got)
		}
	}
}

func FuzzParseInbox(f *testing.F) {
	for _, s := range []string{
		"https://one.example/inbox", "HTTP://Bücher.example.:080/ż?q#f", "https://[::FFFF:1.1.1.1]:443", "https://１.1.1.1/",
		"https://a@b/", "https://ab--cd:1?", "https://0x7f.1/", "http://one.example:443/{", "https://xn--fa-hia.example//",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		in, refusal := ParseInbox(raw, true, home)
		if refusal != nil {
			return
		}
		again, refusal := ParseInbox(in.URL, true, home)
		if refusal != nil || again != in {
			t.Errorf("%q gave %+v, which gave %+v, %v", raw, in, again, refusal)
		}
		checkLaneName(t, in.Host)
		if host, err := NormaliseHost(in.Host); err != nil || host != in.Host {
			t.Errorf("lane %q can't be named: %q, %v", in.Host, host, err)
		}
		u, err := url.Parse(in.URL)
		if err != nil || u.User != nil || u.Opaque != "" || u.String() != in.URL {
			t.Errorf("%q: net/url reads %q as %#v, %v", raw, in.URL, u, err)
		}
	})
}

func FuzzNormaliseHost(f *testing.F) {
	for _, s := range []string{"One.Example:443", "[::1]:80", "10.0.0.1", "bücher.example.", "127.1", "a--b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, err := NormaliseHost(s)
		if err != nil {
			return
		}
		checkLaneName(t, host)
		if again, err := NormaliseHost(host); err != nil || again != host {
			t.Errorf("%q gave %q, which gave %q, %v", s, host, again, err)
		}
		if strings.HasPrefix(host, "[") {
			return // may be an address that no inbox can have
		}
		in, refusal := ParseInbox("https://"+s+"/", true, home)
		if refusal != nil && refusal.Reason == ReasonBadURL || refusal == nil && in.Host != host {
			t.Errorf("%q is %q as a host, but %+v, %v in an inbox", s, host, in, refusal)
		}
	})
}

func checkLaneName(t *testing.T, host string) {
	t.Helper()
	strange := func(r rune) bool {
		return r <= ' ' || r >= 0x7f || 'A' <= r && r <= 'Z' || strings.ContainsRune("/?#@\\%", r)
	}
	if host == "" || strings.ContainsFunc(host, strange) || strings.HasSuffix(host, ":443") {
		t.Errorf("not a lane name: %q", host)
	}
}

// URLs in the usual form take a shorter way, with the same result.
func FuzzShortCuts(f *testing.F) {
	f.Add("a-b.example", "/users/a_b~c/@d.e")
	f.Add("-.xn--a", "//x")
	f.Add("1.2..3-.", "/")
	f.Add("_a.b_c_", "/")
	f.Fuzz(func(t *testing.T, name, target string) {
		got, err := toASCII(name)
		if want, wantErr := lookupProfile.ToASCII(name); got != want && wantErr == nil || (err == nil) != (wantErr == nil) {
			t.Errorf("%q is written %q (%v), want %q (%v)", name, got, err, want, wantErr)
		}
		if !strings.HasPrefix(target, "/") || !isPlain(target) {
			return
		}
		u, err := url.Parse("https://host.example" + target)
		if err != nil || u.RequestURI() != target {
			t.Errorf("%q is no plain target: it would be sent as another (%v)", target, err)
		}
	})
}
