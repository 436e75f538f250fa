package config

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// parser parses the text of a value. Its error says what is accepted, and never holds the value.
type parser[T any] func(tag *kong.Tag, raw string) (T, error)

// Decode implements kong.Mapper.
func (p parser[T]) Decode(ctx *kong.DecodeContext, target reflect.Value) error {
	token, err := ctx.Scan.PopValue("value")
	if err != nil {
		return &UsageError{Setting: ctx.Value.Name, Source: "--" + ctx.Value.Name, Accepted: "want a value after it"}
	}
	return p.set(ctx.Value, token.String(), target)
}

func (p parser[T]) set(v *kong.Value, raw string, target reflect.Value) error {
	value, err := p(v.Tag, raw)
	if err != nil {
		return &UsageError{Setting: v.Name, Source: "--" + v.Name, Value: shown(v, raw), Accepted: err.Error()}
	}
	target.Set(reflect.ValueOf(&value).Elem())
	return nil
}

// switchParser parses a flag that needs no value.
type switchParser struct{ parser[bool] }

// IsBool implements kong.BoolMapper.
func (switchParser) IsBool() bool { return true }

// Decode implements kong.Mapper.
func (p switchParser) Decode(ctx *kong.DecodeContext, target reflect.Value) error {
	if ctx.Scan.Peek().Type != kong.FlagValueToken {
		target.SetBool(true)
		return nil
	}
	return p.parser.Decode(ctx, target)
}

// shown returns a value as errors may repeat it: the name of a file, but no secret.
func shown(v *kong.Value, raw string) string {
	switch v.Name {
	case "master-key", "to-master-key":
		if strings.Count(","+raw, ",@") != strings.Count(raw, ",")+1 { // not files only
			return redacted
		}
	case "token":
		return redacted
	case "api-tokens", "database-url", "webhook-secret":
		if !strings.HasPrefix(raw, "@") {
			return redacted
		}
	case "url", "webhook-url":
		return redactURL(raw)
	case "store", "to":
		if !strings.HasPrefix(raw, string(Embedded)+":") {
			return redactURL(raw)
		}
	}
	return raw
}

// mappers returns the parsers by type of field or by type tag.
func mappers(files *secretFiles) []kong.Option {
	return []kong.Option{
		kong.TypeMapper(reflect.TypeFor[time.Duration](), parser[time.Duration](duration)),
		kong.TypeMapper(reflect.TypeFor[int](), parser[int](number)),
		kong.TypeMapper(reflect.TypeFor[bool](), switchParser{onOff}),
		kong.TypeMapper(reflect.TypeFor[slog.Level](), parser[slog.Level](level)),
		kong.TypeMapper(reflect.TypeFor[[]Token](), parser[[]Token](files.tokens)),
		kong.TypeMapper(reflect.TypeFor[[]netip.Prefix](), parser[[]netip.Prefix](prefixes)),
		kong.TypeMapper(reflect.TypeFor[Store](), parser[Store](parseStore)),
		kong.NamedMapper("master-key", parser[[]Secret](files.masterKeys)),
		kong.NamedMapper("listen", parser[string](listen)),
		kong.NamedMapper("prefix", keyPrefix),
		kong.NamedMapper("user-agent", userAgent),
		kong.NamedMapper("choice", parser[string](choice)),
		kong.NamedMapper("ca-file", parser[string](caFile)),
		kong.NamedMapper("file", parser[string](file)),
		kong.NamedMapper("api-url", parser[string](apiURL)),
		kong.NamedMapper("database-url", parser[Secret](files.databaseURL)),
		kong.NamedMapper("webhook-url", parser[string](webhookURL)),
		kong.NamedMapper("webhook-secret", parser[Secret](files.webhookSecret)),
		kong.NamedMapper("entries", someOf("dead", "host_state", "activity_done", "delivered", "action")),
		kong.NamedMapper("token", parser[Secret](token)),
		kong.NamedMapper("scenarios", someOf(BenchScenarios()...)),
		kong.NamedMapper("svg", svgFile),
	}
}

func duration(tag *kong.Tag, raw string) (time.Duration, error) {
	least := time.Duration(1)
	want := "a positive duration such as 90s or 72h"
	if m := tag.Get("min"); m != "" {
		least, _ = time.ParseDuration(m)
		want = "a duration of at least " + m + ", such as " + tag.Default
	}
	d, err := time.ParseDuration(raw)
	if err != nil || d < least {
		return 0, errors.New("want " + want)
	}
	return d, nil
}

func number(tag *kong.Tag, raw string) (int, error) {
	low, _ := strconv.Atoi(tag.Get("min"))
	high, _ := strconv.Atoi(tag.Get("max"))
	n, err := strconv.Atoi(raw)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("want a whole number from %d to %d", low, high)
	}
	return n, nil
}

func onOff(_ *kong.Tag, raw string) (bool, error) {
	on, err := strconv.ParseBool(raw)
	if err != nil {
		return false, errors.New("want true or false")
	}
	return on, nil
}

func level(_ *kong.Tag, raw string) (slog.Level, error) {
	var l slog.Level
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, raw) {
		return 0, errors.New("want debug, info, warn or error")
	}
	return l, l.UnmarshalText([]byte(raw))
}

func choice(tag *kong.Tag, raw string) (string, error) {
	choices := strings.Fields(tag.Get("choices"))
	if !slices.Contains(choices, raw) {
		return "", errors.New("want one of " + strings.Join(choices, ", "))
	}
	return raw, nil
}

// someOf returns the parser of lists of these names.
func someOf(names ...string) parser[[]string] {
	return func(_ *kong.Tag, raw string) ([]string, error) {
		list := strings.Split(raw, ",")
		for i := range list {
			if list[i] = strings.TrimSpace(list[i]); !slices.Contains(names, list[i]) {
				return nil, errors.New("want some of " + strings.Join(names, ","))
			}
		}
		return list, nil
	}
}

// tokens reads a list from the value or, from a file, one token a line. A file without any token is refused: a setting that
// names a file must not leave the API open.
func (f *secretFiles) tokens(_ *kong.Tag, raw string) ([]Token, error) {
	text, isFile, err := f.text(raw)
	switch {
	case err != nil:
		return nil, err
	case !isFile:
		return parseTokens(strings.Split(raw, ","))
	}
	list, err := parseTokens(uncommented(text))
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("no token in the file: %w", errTokens)
	}
	return list, err
}

// uncommented returns the lines of a file that don't begin with #.
func uncommented(text string) []string {
	lines := strings.Split(text, "\n")
	return slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "#") })
}

func readFile(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("want a file that can be read: %w", err)
	}
	return string(text), nil
}

var errMasterKey = errors.New("want 32 bytes in base64, or @FILE that holds them (head -c 32 /dev/urandom | base64), " +
	"or a list of these, separated by commas or one a line, of which the first encrypts")

// masterKeys reads a list of keys. It refuses an empty entry: the key that should encrypt may be missing there.
func (f *secretFiles) masterKeys(_ *kong.Tag, raw string) ([]Secret, error) {
	if raw == "" {
		return nil, nil
	}
	var list []Secret
	for entry := range strings.SplitSeq(raw, ",") {
		text, isFile, err := f.text(strings.TrimSpace(entry))
		if err != nil {
			return nil, err
		}
		lines := []string{text}
		if isFile {
			lines = slices.DeleteFunc(uncommented(text), func(line string) bool { return strings.TrimSpace(line) == "" })
		}
		if len(lines) == 0 {
			return nil, errMasterKey
		}
		for _, line := range lines {
			key, err := masterKey(line)
			if err != nil {
				return nil, err
			}
			list = append(list, key)
		}
	}
	return list, nil
}

// masterKey accepts both alphabets of base64, padded or not.
func masterKey(text string) (Secret, error) {
	standard := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(strings.TrimSpace(text), "="))
	key, err := base64.RawStdEncoding.DecodeString(standard)
	if err != nil || len(key) != 32 {
		return Secret{}, errMasterKey
	}
	return NewSecret(string(key)), nil
}

func listen(_ *kong.Tag, raw string) (string, error) {
	host, port, err := net.SplitHostPort(raw)
	if err != nil || !isPort(port) || host != "" && !isHost(host) {
		return "", errors.New("want HOST:PORT such as 127.0.0.1:8080 or [::1]:8080")
	}
	return raw, nil
}

// matching returns the parser of texts of a form.
func matching(form, want string) parser[string] {
	accepted := regexp.MustCompile(form)
	return func(_ *kong.Tag, raw string) (string, error) {
		if !accepted.MatchString(raw) {
			return "", errors.New(want)
		}
		return raw, nil
	}
}

var (
	// keyPrefix refuses braces above all: they would move every key to one hash slot.
	keyPrefix = matching(`^[A-Za-z0-9._:-]{1,64}$`, "want 1 to 64 letters, digits, colons and . _ -")
	userAgent = matching(`^[!-~]([ -~]{0,254}[!-~])?$`,
		"want 1 to 256 printable ASCII characters such as Postrider/1 (+https://your.host/)")
	svgFile = matching(`\.svg$`, "want the name of a file that ends in .svg")
)

func caFile(_ *kong.Tag, raw string) (string, error) {
	if raw == "" {
		return "", nil
	}
	if err := appendCertificates(x509.NewCertPool(), raw); err != nil {
		return "", fmt.Errorf("want a file of certificates in PEM: %w", err)
	}
	return raw, nil
}

// file accepts any file that can be read: which contents are accepted depends on other settings.
func file(_ *kong.Tag, raw string) (string, error) {
	if raw == "" {
		return "", nil
	}
	_, err := readFile(raw)
	return raw, err
}

func prefixes(_ *kong.Tag, raw string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for entry := range strings.SplitSeq(raw, ",") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		p, err := parsePrefix(entry)
		if err != nil {
			return nil, errors.New("want addresses or CIDR prefixes such as 10.0.0.0/8,fd00::/8,127.0.0.1")
		}
		list = append(list, p)
	}
	return list, nil
}

// parsePrefix parses a prefix, or an address as the prefix of all its bits.
func parsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		addr, err := parseAddr(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		return addr.Prefix(addr.BitLen())
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

// parseAddr parses an address without a zone.
func parseAddr(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err == nil && addr.Zone() != "" {
		return netip.Addr{}, errors.New("address with a zone")
	}
	return addr.Unmap(), err
}
