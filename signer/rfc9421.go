package signer

import (
	"encoding/base64"
	"strconv"
	"strings"
)

// signRFC9421 signs m by RFC 9421, with the digest of RFC 9530.
func signRFC9421(m *message, key *signingKey) error {
	digest := "sha-256=" + byteSequence(m.Digest[:])
	covered, err := m.withHeaders([]component{
		{"@method", m.method}, {"@target-uri", m.targetURI()}, {"content-digest", digest},
	})
	if err != nil {
		return err
	}
	params := signatureParams(covered, m, key.algorithm())
	signature, err := key.sign(signatureBase(covered, params))
	if err != nil {
		return err
	}
	m.header["Content-Digest"] = []string{digest}
	m.header["Signature-Input"] = []string{"sig1=" + params}
	m.header["Signature"] = []string{"sig1=" + byteSequence(signature)}
	return nil
}

// targetURI is the absolute URI of the request as its receiver sees it (RFC 9421 section 2.2.2), the host in lower case
// and without a default port, as section 2.2.3 has the authority.
func (m *message) targetURI() string {
	port := ":443"
	if m.scheme == "http" {
		port = ":80"
	}
	return m.scheme + "://" + strings.TrimSuffix(strings.ToLower(m.host), port) + m.target
}

// signatureParams lists what is signed and how (RFC 9421 section 2.3). The key ID needs no escape: CheckKeyID accepted it.
func signatureParams(covered []component, m *message, algorithm string) string {
	var b strings.Builder
	b.Grow(256)
	separator := `("`
	for _, c := range covered {
		b.WriteString(separator + c.name)
		separator = `" "`
	}
	b.WriteString(`");created=` + strconv.FormatInt(m.now.Unix(), 10) + `;keyid="` + m.KeyID + `";alg="` + algorithm + `"`)
	return b.String()
}

// signatureBase is what gets signed (RFC 9421 section 2.5): a line for each component, and no newline after the last.
func signatureBase(covered []component, params string) []byte {
	b := make([]byte, 0, 512)
	for _, c := range covered {
		b = append(b, '"')
		b = append(b, c.name...)
		b = append(b, `": `...)
		b = append(b, c.value...)
		b = append(b, '\n')
	}
	b = append(b, `"@signature-params": `...)
	return append(b, params...)
}

// byteSequence encodes b as RFC 9651 section 3.3.5 has it.
func byteSequence(b []byte) string { return ":" + base64.StdEncoding.EncodeToString(b) + ":" }
