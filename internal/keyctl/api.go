package keyctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
)

const (
	callTimeout = time.Minute // more than a node takes
	maxAnswer   = 16 << 20    // 500 keys of 8192 bits are 1 MB
)

var errStrange = errors.New("the answer is none of a Postrider node: is the URL right?")

// api is a node's API as seen from outside.
type api struct {
	url, token string
	client     *http.Client
}

func newAPI(base, token string) *api {
	return &api{base, token, &http.Client{
		Timeout:       callTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// call makes a call and reads its answer into what is given, unless that is nil. An answer that is no success is an
// error.
func (a *api) call(ctx context.Context, method, path string, body []byte, into any) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, method, a.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, a.away(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, a.away(err)
	}
	if resp.StatusCode/100 != 2 {
		return 0, refusal(resp, text)
	}
	if into != nil && json.Unmarshal(text, into) != nil {
		return 0, errStrange
	}
	return resp.StatusCode, nil
}

// away is the error of a call that got no answer.
func (a *api) away(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // the rest names the path
	}
	return fmt.Errorf("no answer from %s: %w", a.url, err)
}

// refusal makes an error of an answer that is no success: of its problem document (RFC 9457), if it has one.
func refusal(resp *http.Response, text []byte) error {
	var p struct {
		Detail string
		Errors []struct{ Location, Message string }
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return errors.New("the node wants a token of its api-tokens: --token, POSTRIDER_TOKEN or api-tokens")
	case resp.Header.Get("Content-Type") != "application/problem+json" || json.Unmarshal(text, &p) != nil:
		return fmt.Errorf("answered %s: %w", resp.Status, errStrange)
	}
	said := fmt.Sprintf("%s: %s", resp.Status, p.Detail)
	for _, e := range p.Errors {
		said += fmt.Sprintf("; %s: %s", e.Location, e.Message)
	}
	return errors.New(oneLine(said))
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}
