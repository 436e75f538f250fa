package testinbox

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// rfc9421 reads a signature of RFC 9421: one, over @method, @target-uri and content-digest at least, with the
// parameters created, keyid and alg.
func (m message) rfc9421() (signature, error) {
	input, err := m.single("Signature-Input")
	if err != nil {
		return signature{}, err
	}
	in, err := parseInput(input)
	if err != nil {
		return signature{}, err
	}
	s := signature{keyID: in.keyID, algorithm: in.algorithm}
	if s.value, err = m.signatureValue(in.label); err != nil {
		return s, err
	}
	if s.base, err = m.signatureBase(in); err != nil {
		return s, err
	}
	if err := checkTime(in.created); err != nil {
		return s, err
	}
	return s, m.checkDigest("Content-Digest", "sha-256=:", ":")
}

// signatureInput is a Signature-Input header of one member.
type signatureInput struct {
	label      string
	parameters string // the text after "label=", byte for byte, since it is signed
	components []string
	created    time.Time
	keyID      string
	algorithm  string
}

var (
	inputShape     = regexp.MustCompile(`^([a-z*][a-z0-9_.*-]*)=(\(((?:"[a-z0-9@-]+"(?: |\)))+)(.*))$`)
	inputParameter = regexp.MustCompile(`^;([a-z]+)=("(?:[ !#-\[\]-~]|\\["\\])*"|[0-9]{1,15})`)
	unescaper      = strings.NewReplacer(`\"`, `"`, `\\`, `\`)
)

// parseInput parses the subset of structured fields that such a header needs: plain component names, and parameters
// that are strings or whole numbers.
func parseInput(header string) (signatureInput, error) {
	shape := inputShape.FindStringSubmatch(header)
	if shape == nil || !strings.HasSuffix(shape[3], ")") {
		return signatureInput{}, fmt.Errorf("malformed Signature-Input %q", header)
	}
	in := signatureInput{label: shape[1], parameters: shape[2]}
	for _, component := range strings.Fields(strings.TrimSuffix(shape[3], ")")) {
		in.components = append(in.components, strings.Trim(component, `"`))
	}
	values, err := inputParameters(shape[4])
	if err != nil {
		return in, err
	}
	seconds, err := strconv.ParseInt(values["created"], 10, 64)
	if err != nil {
		return in, fmt.Errorf("created is %s, want seconds since 1970", values["created"])
	}
	in.created = time.Unix(seconds, 0)
	in.keyID = unquote(values["keyid"])
	in.algorithm = unquote(values["alg"])
	return in, nil
}

// inputParameters returns the parameters as they are, with strings still quoted.
func inputParameters(rest string) (map[string]string, error) {
	values := map[string]string{}
	for rest != "" {
		match := inputParameter.FindStringSubmatch(rest)
		if match == nil {
			return nil, fmt.Errorf("malformed signature parameters at %q", rest)
		}
		if _, twice := values[match[1]]; twice {
			return nil, fmt.Errorf("parameter %s is there twice", match[1])
		}
		values[match[1]] = match[2]
		rest = rest[len(match[0]):]
	}
	return values, nil
}

// unquote returns the value of a structured string, and "" for anything else.
func unquote(s string) string {
	inner, ok := strings.CutPrefix(s, `"`)
	if !ok {
		return ""
	}
	return unescaper.Replace(strings.TrimSuffix(inner, `"`))
}

// signatureValue returns the bytes in a Signature header with one member, under the label of its input.
func (m message) signatureValue(label string) ([]byte, error) {
	header, err := m.single("Signature")
	if err != nil {
		return nil, err
	}
	encoded, labelled := strings.CutPrefix(header, label+"=:")
	encoded, closed := strings.CutSuffix(encoded, ":")
	if !labelled || !closed {
		return nil, fmt.Errorf("malformed Signature %q for label %s", header, label)
	}
	value, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	return value, nil
}

// signatureBase is the signature base of section 2.5.
func (m message) signatureBase(in signatureInput) (string, error) {
	var base strings.Builder
	seen := map[string]bool{}
	for _, name := range in.components {
		value, err := m.component(name)
		if err != nil {
			return "", err
		}
		// SPEC: section 2: "each component identifier MUST occur only once" in the covered components.
		if seen[name] {
			return "", fmt.Errorf("%s is covered twice", name)
		}
		seen[name] = true
		fmt.Fprintf(&base, "%q: %s\n", name, value)
	}
	for _, name := range []string{"@method", "@target-uri", "content-digest"} {
		if !seen[name] {
			return "", fmt.Errorf("%s is not covered", name)
		}
	}
	return base.String() + `"@signature-params": ` + in.parameters, nil
}

// component returns the value of a component: section 2.2 for derived ones, 2.1 for headers. Host is no header here: Go
// servers keep it elsewhere and verifiers for them refuse it.
func (m message) component(name string) (string, error) {
	scheme := "http"
	if m.TLS != nil {
		scheme = "https"
	}
	switch name {
	case "@method":
		return m.Method, nil
	case "@target-uri":
		return scheme + "://" + m.Host + m.RequestURI, nil
	case "@authority":
		return strings.ToLower(m.Host), nil
	case "host":
		return "", fmt.Errorf("host is covered, want @authority")
	}
	return m.field(name)
}
