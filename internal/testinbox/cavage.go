package testinbox

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// cavage reads a signature of draft-cavage-http-signatures-12, in the one form that every receiver accepts: rsa-sha256
// over (request-target), host, date and digest at least, with the parameters joined by commas without spaces.
func (m message) cavage() (signature, error) {
	header, err := m.single("Signature")
	if err != nil {
		return signature{}, err
	}
	p, err := cavageParameters(header)
	if err != nil {
		return signature{}, err
	}
	s := signature{keyID: p["keyId"], algorithm: "rsa-v1_5-sha256"}
	if p["algorithm"] != "rsa-sha256" {
		return s, fmt.Errorf("algorithm is %q, want rsa-sha256", p["algorithm"])
	}
	if s.value, err = base64.StdEncoding.Strict().DecodeString(p["signature"]); err != nil {
		return s, fmt.Errorf("signature: %w", err)
	}
	if s.base, err = m.cavageBase(strings.Split(p["headers"], " ")); err != nil {
		return s, err
	}
	return s, errors.Join(m.checkDate(), m.checkDigest("Digest", "SHA-256=", ""))
}

// cavageParameters splits a Signature header; it refuses spaces between the parameters, as some receivers do.
func cavageParameters(header string) (map[string]string, error) {
	parameters := map[string]string{}
	for rest := header; rest != ""; {
		name, quoted, begun := strings.Cut(rest, `="`)
		value, more, ended := strings.Cut(quoted, `"`)
		next, separated := strings.CutPrefix(more, ",")
		if !begun || !ended || !isWord(name) || strings.Contains(value, `\`) || separated == (next == "") {
			return nil, fmt.Errorf("malformed Signature header at %q", rest)
		}
		if _, twice := parameters[name]; twice {
			return nil, fmt.Errorf("parameter %s is there twice", name)
		}
		parameters[name] = value
		rest = next
	}
	return parameters, nil
}

// isWord reports whether a text is of letters.
func isWord(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool { return (r|0x20) < 'a' || (r|0x20) > 'z' })
}

// cavageBase is the signing string of section 2.3.
func (m message) cavageBase(headers []string) (string, error) {
	for _, name := range []string{"(request-target)", "host", "date", "digest"} {
		if !slices.Contains(headers, name) {
			return "", fmt.Errorf("%s is not signed", name)
		}
	}
	lines := make([]string, len(headers))
	for i, name := range headers {
		if name == "(request-target)" {
			lines[i] = name + ": " + strings.ToLower(m.Method) + " " + m.RequestURI
			continue
		}
		value, err := m.field(name)
		if err != nil {
			return "", err
		}
		lines[i] = name + ": " + value
	}
	return strings.Join(lines, "\n"), nil
}

// checkDate requires one fresh Date in the form that all receivers read, RFC 9110's IMF-fixdate.
func (m message) checkDate() error {
	value, err := m.single("Date")
	if err != nil {
		return err
	}
	date, err := time.Parse(http.TimeFormat, value)
	if err != nil {
		return fmt.Errorf("date: %w", err)
	}
	return checkTime(date)
}
