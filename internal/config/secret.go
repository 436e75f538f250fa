package config

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
)

const redacted = "[redacted]"

// Secret is text that shows itself only to Reveal: fmt, JSON and slog write "[redacted]" for it, or nothing where it is
// not set. The zero value is not set.
type Secret struct {
	// A pointer, so that a printer which passes the methods below by (%#v does, and all of fmt in unexported fields)
	// finds an address only.
	text *string
}

// NewSecret hides text; "" is the secret that is not set.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{&text}
}

// Reveal returns the text, "" if it is not set.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsSet tells whether there is anything to reveal.
func (s Secret) IsSet() bool { return s.text != nil }

// String returns what may be shown.
func (s Secret) String() string {
	if s.text == nil {
		return ""
	}
	return redacted
}

// MarshalText implements encoding.TextMarshaler, for JSON and its like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Token is one bearer token of the API and the name its user goes by in logs.
type Token struct {
	Name   string
	Secret Secret
}

const minTokenLength = 16

var (
	errTokens = errors.New("want name:token,… or @FILE of such lines: names of letters, digits, - _ and . and " +
		"unique tokens of at least 16 visible ASCII characters without commas")

	tokenName  = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	tokenValue = regexp.MustCompile(`^[!-+\--~]+$`) // visible ASCII but the comma
)

// parseTokens parses a list of tokens; empty entries are passed over. Names and tokens are unique, so that a token says
// who calls.
func parseTokens(entries []string) ([]Token, error) {
	var tokens []Token
	seen := map[string]bool{}
	for _, entry := range entries {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		name, secret, _ := strings.Cut(entry, ":")
		// The two are told apart by the colon, which no name has.
		bad := !tokenName.MatchString(name) || !tokenValue.MatchString(secret) || len(secret) < minTokenLength ||
			seen[name] || seen[":"+secret]
		if bad {
			return nil, fmt.Errorf("entry %d: %w", len(tokens)+1, errTokens)
		}
		seen[name], seen[":"+secret] = true, true
		tokens = append(tokens, Token{name, NewSecret(secret)})
	}
	return tokens, nil
}
