package printable

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"plain", "verification failed", "verification failed"},
		{"white space", "\r\n \t bad  thing\u00a0happened\u2028\v\f\u0085here\u3000\n", "bad thing happened here"},
		{"white space and nothing", " \n\x00 \u200b\n ", ""},
		{"control characters", "a\x00b\x07c\x7fd\u0080e", "abcde"},
		{"terminal escapes", "\x1b[31mred\x1b[0m \x1b]0;title\x07 \u009b2J", "[31mred[0m ]0;title 2J"},
		{"direction", "abc\u202edef\u2066ghi\u200fj\u061ck", "abcdefghijk"},
		{"invisible", "a\ufeffb\u200dc\u00add\u2060e\U000e0041f", "abcdef"},
		{"no UTF-8", "a\xffb\xc3 \xe2\x82c\xed\xa0\x80d", "ab cd"},
		{"replacement character", "a\ufffdb", "ab"},
		{"private use and unassigned", "a\ue000b\U0010ffffc\u0378d", "abcd"},
		{"other scripts", "Grüße, こんにちは שלום 🐎 e\u0301", "Grüße, こんにちは שלום 🐎 e\u0301"},
	} {
		if got := Line(tt.text, 100); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestLineLength(t *testing.T) {
	for _, tt := range []struct {
		text string
		most int
		want string
	}{
		{strings.Repeat("ż", 300), 200, strings.Repeat("ż", 200)},
		{"abc def", 7, "abc def"},
		{"abc def", 6, "abc de"},
		{"abc def", 5, "abc d"},
		{"abc def", 4, "abc"},
		{"abc def", 3, "abc"},
		{"abc", 0, ""},
		{"  \x00a", 1, "a"},
	} {
		if got := Line(tt.text, tt.most); got != tt.want {
			t.Errorf("%d characters of %q: %q, want %q", tt.most, tt.text, got, tt.want)
		}
	}
}

// FuzzLine checks that the result is safe for any input, and does not change when it is the input.
func FuzzLine(f *testing.F) {
	f.Add("a\x00\x1b[31mb\u202ec\xff\ufeff\td", 200)
	f.Add("  a  b  ", 2)
	f.Fuzz(func(t *testing.T, text string, most int) {
		got := Line(text, most)
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > max(most, 0) {
			t.Fatalf("%q has %d characters, valid UTF-8: %t", got, utf8.RuneCountInString(got), utf8.ValidString(got))
		}
		for _, r := range got {
			if !unicode.IsPrint(r) || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Bidi_Control) {
				t.Fatalf("%q holds %U", got, r)
			}
		}
		if again := Line(got, most); again != got {
			t.Fatalf("%q became %q", got, again)
		}
	})
}
