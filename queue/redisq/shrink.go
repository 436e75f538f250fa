package redisq

import (
	"errors"
	"time"

	"github.com/klauspost/compress/s2"
)

// Records of hosts and last attempts are stored by the hundred thousand, each as JSON that is compressed with what most of
// them have in common. So they take less than the 64 bytes up to which Redis keeps a lane in one piece of memory.

// phrases is what records and last attempts have in common, the most frequent last. Stored records can't be read
// without it: it may never change. Another one would need another mark than shrunk.
const phrases = `,"scheme":"rfc9421","throttles":1,"unavailable":true}` +
	`{"state":2,"failures":10,"trips":1,"window":16,"days":[20780],"failed":true,"scheme":"cavage","throttles":1}` +
	`{"status":400,"outcome":"unauthorized","error":"Bad Request"}` +
	`{"outcome":"unreachable","error":"tls: failed to verify certificate: x509: certificate has expired or is not yet valid: ` +
	`current time 2026-12-31T23:59:59Z is after 2026-12-31T23:59:59Z"}` +
	`"error":"tls: failed to verify certificate: x509: certificate is valid for example.org, not example.org"}` +
	`"error":"read tcp 10.0.0.1:443: read: connection reset by peer"}"error":"unexpected EOF"}` +
	`"error":"context deadline exceeded (Client.Timeout exceeded while awaiting headers)"}` +
	`"error":"dial tcp [2001:db8::1]:443: connect: no route to host"}` +
	`{"status":429,"outcome":"throttled","error":"Too Many Requests"}` +
	`{"status":502,"outcome":"server_error","error":"Bad Gateway"}` +
	`{"status":503,"outcome":"server_error","error":"Service Unavailable"}` +
	`{"outcome":"unreachable","error":"dial tcp: lookup social.example on 127.0.0.53:53: no such host"}` +
	`{"outcome":"unreachable","error":"dial tcp 127.0.0.1:443: i/o timeout"}` +
	`{"outcome":"unreachable","error":"dial tcp 127.0.0.1:443: connect: connection refused"}` +
	`{"state":1,"failures":10,"trips":1,"window":1,"days":[20780,20781,20782],"failed":true,"opened_at":59712345678,"last_success":59712345678,"scheme":"cavage"}` +
	`{"failures":1,"days":[20780],"failed":true}{"window":8,"last_success":59712345678,"scheme":"cavage"}`

// shrunk marks what was compressed with phrases. No delivery begins with it (see lane.lua).
const shrunk = "\x01"

var (
	dictionary = s2.MakeDict([]byte(phrases), []byte(`{"`))
	errShrunk  = errors.New("a stored record is not what it was written as")
)

// compress returns v as JSON that is compressed with the phrases.
func compress(v any) string { return string(dictionary.Encode(nil, []byte(toJSON(v)))) }

// decompress undoes compress.
func decompress(text string, v any) error {
	whole, err := dictionary.Decode(nil, []byte(text))
	if err != nil {
		return err
	}
	return decode(string(whole), v)
}

const year2025 = 1_735_689_600_000 // ms since the Unix epoch

func since2025(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli() - year2025
}

func after2025(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms + year2025).UTC()
}
