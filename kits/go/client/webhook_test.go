package client

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The example that Standard Webhooks publishes.
const (
	webhookSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	webhookID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	webhookTime      = 1614265330
	webhookBody      = `{"test": 2432232314}`
	webhookSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func TestVerifyWebhook(t *testing.T) {
	other := "v1," + strings.Repeat("A", 43) + "="
	for name, tt := range map[string]struct {
		secret, id, stamp, signature, body string
		late                               time.Duration
		ok                                 bool
	}{
		"as published":      {ok: true},
		"without prefix":    {secret: strings.TrimPrefix(webhookSecret, "whsec_"), ok: true},
		"a rotated secret":  {signature: other + " v1a,AAAA " + webhookSignature, ok: true},
		"five minutes late": {late: 5 * time.Minute, ok: true},
		"five minutes soon": {late: -5 * time.Minute, ok: true},
		"too late":          {late: 5*time.Minute + time.Second},
		"too soon":          {late: -5*time.Minute - time.Second},
		"another secret":    {secret: "whsec_AAAA9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
		"another body":      {body: webhookBody + " "},
		"another id":        {id: "msg_2"},
		"another time":      {stamp: "1614265331"},
		"no time":           {stamp: "yesterday"},
		"another signature": {signature: other},
		"another version":   {signature: "v2" + webhookSignature[2:]},
		"a cut signature":   {signature: webhookSignature[:20]},
		"an empty one":      {signature: "v1,"},
	} {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Until(time.Unix(webhookTime, 0).Add(tt.late)))
			h := http.Header{}
			h.Set("Webhook-Id", cmp.Or(tt.id, webhookID))
			h.Set("Webhook-Timestamp", cmp.Or(tt.stamp, "1614265330"))
			h.Set("Webhook-Signature", cmp.Or(tt.signature, webhookSignature))
			_, err := VerifyWebhook(cmp.Or(tt.secret, webhookSecret), h, []byte(cmp.Or(tt.body, webhookBody)))
			if (err == nil) != tt.ok || (err != nil && !errors.Is(err, ErrWebhook)) {
				t.Errorf("%s: error %v", name, err)
			}
		})
	}
	if _, err := VerifyWebhook(webhookSecret, http.Header{}, nil); !errors.Is(err, ErrWebhook) {
		t.Errorf("without headers: %v", err)
	}
	for _, secret := range []string{"", "whsec_", "whsec_%%"} {
		if _, err := VerifyWebhook(secret, http.Header{}, nil); err == nil || errors.Is(err, ErrWebhook) {
			t.Errorf("secret %q: %v", secret, err)
		}
	}
}

func TestWebhookHasEntries(t *testing.T) {
	const body = `{"items":[{"type":"dead","cursor":"6","reason":"gone","ids":["https://one.example/users/bob"]},{"type":"host_state"}],"next_cursor":"7"}`
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(webhookSecret, "whsec_"))
	mac := hmac.New(sha256.New, key)
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	mac.Write([]byte("msg_1." + stamp + "." + body))
	h := http.Header{}
	h.Set("webhook-id", "msg_1")
	h.Set("webhook-timestamp", stamp)
	h.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	entries, err := VerifyWebhook(webhookSecret, h, []byte(body))
	if err != nil || len(entries) != 2 || entries[0].Cursor != "6" || entries[0].IDs[0] != "https://one.example/users/bob" || entries[1].Type != "host_state" {
		t.Errorf("%+v, error %v", entries, err)
	}
}
