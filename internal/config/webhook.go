package config

import (
	"encoding/base64"
	"errors"
	"net/url"
	"strings"

	"github.com/alecthomas/kong"
)

var errWebhookSecret = errors.New("want whsec_ and 24 to 64 bytes in base64, or @FILE that holds them")

// webhookSecret reads a secret of Standard Webhooks.
func (f *secretFiles) webhookSecret(_ *kong.Tag, raw string) (Secret, error) {
	text, isFile, err := f.text(raw)
	if err != nil {
		return Secret{}, err
	}
	if isFile {
		text = strings.TrimSpace(strings.Join(uncommented(text), "\n"))
	}
	encoded, marked := strings.CutPrefix(text, "whsec_")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || !marked || len(key) < 24 || len(key) > 64 {
		return Secret{}, errWebhookSecret
	}
	return NewSecret(text), nil
}

// webhookURL accepts what entries can be posted to.
func webhookURL(_ *kong.Tag, raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return "", errors.New("want a URL such as http://app:3000/postrider")
	}
	return raw, nil
}
