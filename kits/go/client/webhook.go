package client

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// webhookTolerance is how far the clocks of the node and the app may be apart.
const webhookTolerance = 5 * time.Minute

// ErrWebhook means that a request must not be trusted: it is not signed with the secret, or its time is more than five
// minutes off.
var ErrWebhook = errors.New("the webhook's signature is not valid")

// VerifyWebhook checks a request of the node's webhook by the rules of Standard Webhooks, and returns its entries. The
// secret is the node's webhook-secret: whsec_ and base64. The body is the request's, byte for byte. The error wraps
// ErrWebhook if the request must be refused; answer it with 400 or 401, so that the node sends it again.
func VerifyWebhook(secret string, h http.Header, body []byte) ([]Entry, error) {
	if err := verify(secret, h, body); err != nil {
		return nil, err
	}
	var p page[Entry]
	err := json.Unmarshal(body, &p)
	return p.Items, err
}

func verify(secret string, h http.Header, body []byte) error {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || len(key) == 0 {
		return errors.New("the webhook secret is not whsec_ and base64")
	}
	id, stamp := h.Get("webhook-id"), h.Get("webhook-timestamp")
	if err := checkStamp(stamp); err != nil {
		return err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	want := mac.Sum(nil)
	// There are several while the secret is rotated.
	for s := range strings.FieldsSeq(h.Get("webhook-signature")) {
		text, ok := strings.CutPrefix(s, "v1,")
		got, err := base64.StdEncoding.DecodeString(text)
		if ok && err == nil && hmac.Equal(got, want) {
			return nil
		}
	}
	return ErrWebhook
}

func checkStamp(stamp string) error {
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return fmt.Errorf("%w: it has no time", ErrWebhook)
	}
	if off := time.Since(time.Unix(seconds, 0)).Abs(); off > webhookTolerance {
		return fmt.Errorf("%w: its time is off by %s", ErrWebhook, off)
	}
	return nil
}
