package delivery

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestExcerpt(t *testing.T) {
	long := strings.Repeat("x", 2*excerptFrom)
	for _, tt := range []struct {
		name, body, want string
	}{
		{"nothing", "", ""},
		{"white space", " \r\n ", ""},
		{"text", "Signature verification failed\n", "Signature verification failed"},
		{"lines", "\r\n \n  bad thing \r\nmore\n", "bad thing more"},
		{"text that looks like a list", "[error] no such user", "[error] no such user"},
		{"long text", long, strings.Repeat("x", maxExcerpt)},

		{"Mastodon", `{"error":"Request not signed"}`, "Request not signed"},
		{"Misskey", `{"error":{"message":"Access denied.","code":"ACCESS_DENIED","id":"56f35758"}}`, "Access denied."},
		{"Lemmy", `{"error":"couldnt_find_object","message":""}`, "couldnt_find_object"},
		{"WordPress", `{"code":"activitypub_signature_verification","message":"Bad","data":{"status":401}}`, "Bad"},
		{"problem document", `{"type":"about:blank","title":"Unauthorized","status":401,"detail":"key not found"}`, "key not found"},
		{"title alone", `{"title":"Unauthorized","status":401}`, "Unauthorized"},
		{"Discourse", `{"errors":["You are not permitted"],"error_type":"x"}`, "You are not permitted"},
		{"JSON:API", `{"errors":[{"status":"403","title":"Forbidden","detail":"No way"}]}`, "No way"},
		{"white space in JSON", "\ufeff\n{ \"Message\" :\t\"not \\n here\" }", "not here"},
		{"string", `"Invalid HTTP Signature"`, "Invalid HTTP Signature"},
		{"no text in the error", `{"error":true,"status":400,"message":"bad date"}`, "bad date"},
		{"empty error", `{"error":" \u200b","detail":"bad date"}`, "bad date"},
		{"the first of two", `{"error":"one","error":"two"}`, "one"},
		{"no member that holds an error", `{"status":400,"ok":false}`, `{"status":400,"ok":false}`},
		{"cut off", `{"error":"bad date","trace":"` + long, "bad date"},
		{"nothing but nesting", strings.Repeat(`{"error":`, 2000), strings.Repeat(`{"error":`, 2000)[:maxExcerpt]},
		{"error too deep", `{"error":[{"error":{"error":"here"}}]}`, `{"error":[{"error":{"error":"here"}}]}`},
		{"escapes in JSON", `{"error":"a\u001b[31mb\u202ec\ud800d\u0000"}`, "a[31mbcd"},

		{"nginx", "<html>\r\n<head><title>403 Forbidden</title></head>\r\n<body>\r\n<center><h1>403 Forbidden</h1></center>", "403 Forbidden"},
		{"title far down", "<!DOCTYPE html><html><head><style>" + strings.Repeat("a{}", 3000) + "</style><title>Just a moment...</title>", "Just a moment..."},
		{"title with entities", "<TITLE class=x>\n a &lt;b&gt; &amp; c &#27;[31m&#x202e;d </TITLE>", "a <b> & c [31md"},
		{"title cut off", "<html><title>Bad gate", "Bad gate"},
		{"empty title", "<html><title> </title><script>var x</script><h1>Bad</h1>gateway", "Bad gateway"},
		{"no title", "<h1>Bad<br>Gateway</h1><style>h1{}</style><p>nginx</p>", "Bad Gateway nginx"},
		{"no text", "<html><body></body></html>", "<html><body></body></html>"},
		{"XML", `<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code><Message><![CDATA[Access denied]]></Message></Error>`, "AccessDenied Access denied"},
	} {
		if got := excerpt(400, http.Header{}, []byte(tt.body)[:min(len(tt.body), excerptFrom)]); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestExcerptOfARedirect(t *testing.T) {
	for _, tt := range []struct {
		status         int
		location, want string
	}{
		{302, "https://elsewhere.example/inbox", "https://elsewhere.example/inbox"},
		{308, "/a\u202eb\x1b[2Jc", "/ab[2Jc"},
		{301, "", "moved"},
		{400, "/inbox", "moved"},
	} {
		header := http.Header{"Location": {tt.location}}
		if got := excerpt(tt.status, header, []byte("<title>moved</title>")); got != tt.want {
			t.Errorf("%d to %q: %q, want %q", tt.status, tt.location, got, tt.want)
		}
	}
}

// TestErrorsAreSentences checks that an error of net/http that wraps no other is shown in words.
func TestErrorsAreSentences(t *testing.T) {
	err := fmt.Errorf("Post %q: %w", "https://a.example/inbox", errors.New("readLoopPeekFailLocked: %!w(<nil>)"))
	if got := shownError(err); got != errUnasked.Error() {
		t.Errorf("shown as %q", got)
	}
	if got := shownError(nil); got != "" {
		t.Errorf("no error is shown as %q", got)
	}
}

// FuzzExcerpt holds that nothing that an inbox answers makes more of itself than one safe line.
func FuzzExcerpt(f *testing.F) {
	for _, body := range []string{
		`{"error":{"message":"a\u001b"}}`, `["a"]`, `"a"`, "<title>a&#27;</title>", "<?xml?><a><![CDATA[b]]></a>", "text\x1b\u202e\xff", `{"error":`, "<!--", "<title",
	} {
		f.Add(302, "/x", body)
		f.Add(400, "", body)
	}
	f.Fuzz(func(t *testing.T, status int, location, body string) {
		got := excerpt(status, http.Header{"Location": {location}}, []byte(body))
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > maxExcerpt || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("kept %q", got)
		}
	})
}

// A host's certificate and a broken head get into errors of the standard library, the names of a certificate as they
// are.
func TestErrorsOfStrangersAreShown(t *testing.T) {
	names := []string{"\x1b[31m.example", strings.Repeat("long", 10<<10) + ".example"}
	inbox := newInbox(t, accept, func(s *httptest.Server) {
		s.TLS.Certificates = []tls.Certificate{testCA(t).issue(t, time.Now().Add(time.Hour), names...)}
	})
	c := newClient(t, ClientOptions{Policy: loopback, RootCAs: testCA(t).pool, Resolver: newResolver(t, []string{"127.0.0.1"})})
	a := attempt{outcome: OutcomeUnreachable}
	a.answer = c.Post(newPost(t, "https://one.example.:"+portOf(inbox.Listener.Addr())+"/inbox"))
	if a.answer.Err == nil || !strings.Contains(a.answer.Err.Error(), names[0]) {
		t.Fatalf("the error names no names: %v", a.answer.Err)
	}
	got := a.record().Error
	if utf8.RuneCountInString(got) != maxExcerpt || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("kept %q", got)
	}
}
