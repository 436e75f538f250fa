package testinbox

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// post sends an unsigned request to a server.
func post(ctx context.Context, client *http.Client, url, payload string) (int, string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(payload))
	if err != nil {
		return 0, "", err
	}
	answer, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), errors.Join(err, answer.Body.Close())
}

func serve(t *testing.T, handler http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

func TestWhatIsRemembered(t *testing.T) {
	k := newKeyring(t)
	got, _ := knock(t, k, Options{}, k.cavage(t, cavageForm{}))
	want := Request{
		Method: http.MethodPost, Host: "inbox.example", Path: target, ActivityID: "https://app.example/a/1",
		BodySize: len(body), BodyHash: sha256.Sum256([]byte(body)), Scheme: Cavage, KeyID: rsaKeyID, Valid: true,
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Request{}, "At", "Header")); diff != "" {
		t.Error(diff)
	}
	if got.At.IsZero() || got.Header.Get("Content-Type") != "application/activity+json" {
		t.Errorf("at %s, header %v", got.At, got.Header)
	}
	for _, payload := range []string{"", "[]", "{", `{"id":7}`, `{"type":"Note"}`} {
		if id := activityID([]byte(payload)); id != "" {
			t.Errorf("the id in %s is %q", payload, id)
		}
	}
}

func TestLogIsBounded(t *testing.T) {
	in := New(Options{Unsigned: true, Keep: 2})
	for i := range 5 {
		in.ServeHTTP(httptest.NewRecorder(), newRequest(fmt.Sprintf(`{"id":"%d"}`, i)))
	}
	var ids []string
	for _, r := range in.Received() {
		ids = append(ids, r.ActivityID)
	}
	if diff := cmp.Diff([]string{"3", "4"}, ids); diff != "" || in.Count() != 5 {
		t.Errorf("count %d: %s", in.Count(), diff)
	}
}

func TestScript(t *testing.T) {
	in := New(Options{Unsigned: true, Script: func(r Request) Reply {
		switch r.ActivityID {
		case "busy":
			return Reply{Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"7"}}, Body: "later"}
		case "cut":
			return Reply{Close: true}
		}
		return Reply{}
	}})
	server := serve(t, in)
	answer, err := server.Client().Post(server.URL, "", strings.NewReader(`{"id":"busy"}`))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") != "7" || string(text) != "later" {
		t.Errorf("got %d, %v, %s", answer.StatusCode, answer.Header, text)
	}
	if status, _, err := post(t.Context(), server.Client(), server.URL, "{}"); status != http.StatusAccepted || err != nil {
		t.Errorf("zero reply: %d, %v", status, err)
	}
	if status, _, err := post(t.Context(), server.Client(), server.URL, `{"id":"cut"}`); err == nil {
		t.Errorf("a connection closed answered %d", status)
	}
	if in.Count() != 3 {
		t.Errorf("%d requests remembered", in.Count())
	}
}

func TestRefusedNeverReachScript(t *testing.T) {
	in := New(Options{Script: func(r Request) Reply { t.Errorf("script called for %+v", r); return Reply{} }})
	answer := httptest.NewRecorder()
	in.ServeHTTP(answer, newRequest(body))
	if answer.Code != http.StatusUnauthorized || !strings.Contains(answer.Body.String(), "not signed") {
		t.Errorf("got %d, %s", answer.Code, answer.Body)
	}
}

func TestBodyTooLarge(t *testing.T) {
	in := New(Options{Unsigned: true})
	answer := httptest.NewRecorder()
	in.ServeHTTP(answer, newRequest(strings.Repeat(" ", maxBody+1)))
	if answer.Code != http.StatusBadRequest {
		t.Errorf("got %d", answer.Code)
	}
}

// outcome serves a request whose client leaves after patience, and returns the status and its time; 0 is no answer.
func outcome(reply Reply, patience time.Duration) (status int, after time.Duration) {
	start := time.Now()
	in := New(Options{Unsigned: true, Script: func(Request) Reply { return reply }})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer := httptest.NewRecorder()
	defer func() {
		after = time.Since(start)
		if err, _ := recover().(error); errors.Is(err, http.ErrAbortHandler) {
			status = 0
		}
	}()
	in.ServeHTTP(answer, newRequest("{}").WithContext(ctx))
	return answer.Code, 0
}

func TestDelayAndHang(t *testing.T) {
	for _, test := range []struct {
		reply    Reply
		patience time.Duration
		status   int
		after    time.Duration
	}{
		{Reply{}, time.Hour, 202, 0},
		{Reply{Delay: time.Minute}, time.Hour, 202, time.Minute},
		{Reply{Delay: time.Minute}, time.Second, 0, time.Second},
		{Reply{Delay: time.Minute, Close: true}, time.Hour, 0, time.Minute},
		{Reply{Hang: true}, time.Hour, 0, time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			if status, after := outcome(test.reply, test.patience); status != test.status || after != test.after {
				t.Errorf("%+v: status %d after %s", test.reply, status, after)
			}
		})
	}
}

func TestHangEndsWithTheClient(t *testing.T) {
	in := New(Options{Unsigned: true, Script: func(Request) Reply { return Reply{Hang: true} }})
	server := serve(t, in) // its Close waits for the handler
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if status, _, err := post(ctx, server.Client(), server.URL, "{}"); err == nil {
			t.Errorf("hang answered %d", status)
		}
	})
	if err := in.Wait(t.Context(), 1); err != nil {
		t.Error(err)
	}
	cancel()
	waiting.Wait()
}

func TestWaitAndMaxInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := New(Options{Unsigned: true, Script: func(Request) Reply { return Reply{Delay: time.Second} }})
		var senders sync.WaitGroup
		for i := range 12 {
			senders.Go(func() {
				r := newRequest("{}")
				if i%4 == 0 {
					r.Host = "small.example"
				}
				in.ServeHTTP(httptest.NewRecorder(), r)
			})
		}
		if err := in.Wait(t.Context(), 12); err != nil {
			t.Error(err)
		}
		senders.Wait()
		in.ServeHTTP(httptest.NewRecorder(), newRequest("{}"))
		if diff := cmp.Diff(map[string]int{"inbox.example": 9, "small.example": 3}, in.MaxInFlight()); diff != "" {
			t.Error(diff)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := in.Wait(ctx, 14); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for more than came: %v", err)
		}
	})
}
