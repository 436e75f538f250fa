package config

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
)

const redacted = "[redacted]"

// Secret is text that only Reveal returns: fmt, JSON and slog write "[redacted]" for it, or nothing if it is not set. The
// zero value is not set.
type Secret struct {
	// A pointer, so that a printer that ignores the methods below (as %#v does, and all of fmt in unexported fields)
	// prints an address only.
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

// IsSet reports whether there is a secret.
func (s Secret) IsSet() bool { return s.text != nil }

// String returns "[redacted]", or "" if it is not set.
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

// Token is one bearer token of the API and the name of its user in logs.
type Token struct {
	Name   string
	Scopes []string // what it allows; without any, everything
	Secret Secret
}

// tokenScopes lists the scopes that a token may have.
var tokenScopes = []string{"send", "read", "operate", "metrics"}

const minTokenLength = 16

var (
	errTokens = errors.New("want name:token or name/scope+scope:token,… or @FILE of such lines: names of letters, digits, - _ and ., " +
		"scopes of send, read, operate and metrics, and unique tokens of at least 16 visible ASCII characters without commas")

	tokenName  = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	tokenValue = regexp.MustCompile(`^[!-+\--~]+$`) // visible ASCII but the comma
)

// parseTokens parses a list of tokens and ignores empty entries. Names and tokens are unique, so that a token identifies
// the caller.
func parseTokens(entries []string) ([]Token, error) {
	var tokens []Token
	seen := map[string]bool{}
	for _, entry := range entries {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		named, secret, _ := strings.Cut(entry, ":")
		name, scopes, good := parseScopes(named)
		// A colon begins the entries of tokens in seen: no name has one.
		bad := !good || !tokenName.MatchString(name) || !tokenValue.MatchString(secret) || len(secret) < minTokenLength ||
			seen[name] || seen[":"+secret]
		if bad {
			return nil, fmt.Errorf("entry %d: %w", len(tokens)+1, errTokens)
		}
		seen[name] = true
		seen[":"+secret] = true
		tokens = append(tokens, Token{name, scopes, NewSecret(secret)})
	}
	return tokens, nil
}

// parseScopes takes apart the name of a token and its scopes, and reports whether each is one, and stands once.
func parseScopes(text string) (name string, scopes []string, good bool) {
	name, list, scoped := strings.Cut(text, "/")
	if !scoped {
		return name, nil, true
	}
	scopes = strings.Split(list, "+")
	for i, scope := range scopes {
		if !slices.Contains(tokenScopes, scope) || slices.Contains(scopes[:i], scope) {
			return name, nil, false
		}
	}
	return name, scopes, true
}
