package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// What the API answers, as far as the tests look at it.
type (
	acceptedView struct {
		ID         string
		Accepted   int
		Duplicates int
		Superseded int
		Rejected   []faultView
		URL        string
	}
	faultView struct{ Location, Message, Inbox, Reason, Detail string }

	problemView struct {
		Type, Title, Detail string
		Status              int
		Errors              []faultView
	}
	countsView   struct{ Total, Pending, Delivered, Dead, Cancelled int }
	activityView struct {
		ID         string
		ActivityID string `json:"activity_id"`
		Type       string
		KeyID      string `json:"key_id"`
		State      string
		Counts     countsView
	}
	attemptView struct {
		At         time.Time
		Status     int
		Outcome    string
		Error      string
		DurationMS float64 `json:"duration_ms"`
	}
	deliveryView struct {
		ID, Inbox, Host, State string
		Attempts               int
		NextAttemptAt          time.Time   `json:"next_attempt_at"`
		LastAttempt            attemptView `json:"last_attempt"`
	}
	hostView struct {
		Host, State string
		Pending     int
		InFlight    int `json:"in_flight"`
		Breaker     struct {
			State    string
			Failures int       `json:"consecutive_failures"`
			RetryAt  time.Time `json:"retry_at"`
		}
		FailureDays   int         `json:"failure_days"`
		Scheme        string      `json:"signature_scheme"`
		LastSuccessAt time.Time   `json:"last_success_at"`
		LastError     attemptView `json:"last_error"`
	}
	deadLetterView struct {
		ID, Inbox, Host, Reason string
		ActivityID              string `json:"activity_id"`
		Attempts                int
		LastAttempt             attemptView `json:"last_attempt"`
		DiedAt                  time.Time   `json:"died_at"`
	}
	keyView struct {
		KeyID       string `json:"key_id"`
		Algorithm   string
		PublicPEM   string `json:"public_key_pem"`
		Fingerprint string
		SealedWith  string    `json:"sealed_with"`
		CreatedAt   time.Time `json:"created_at"`
	}
	page[T any] struct {
		Items []T
		Next  string `json:"next_cursor"`
	}
)

// answer is what came of a call.
type answer struct {
	status int
	header http.Header
	body   string
}

// problem reads the body of an error.
func (a answer) problem() (p problemView, err error) {
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		return p, fmt.Errorf("Content-Type %q", got)
	}
	return p, json.Unmarshal([]byte(a.body), &p)
}

// tryFunc is the type of try.
type tryFunc = func(method, path string, body io.Reader, headers ...string) (answer, error)

// try calls the API. Headers are names and values in turn; a Content-Type given there wins.
func (n *testNode) try(method, path string, body io.Reader, headers ...string) (answer, error) {
	req, err := http.NewRequestWithContext(n.t.Context(), method, n.url(path), body)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	if n.token != "" {
		req.Header.Set("Authorization", "Bearer "+n.token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := n.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(text)}, err
}

// call is try for calls that have to get an answer.
func (n *testNode) call(method, path, body string, headers ...string) answer {
	n.t.Helper()
	a, err := n.try(method, path, strings.NewReader(body), headers...)
	if err != nil {
		n.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// get reads what a path answers.
func get[T any](n *testNode, path string) (v T) {
	n.t.Helper()
	return read[T](n, http.StatusOK, n.call(http.MethodGet, path, ""))
}

// read reads an answer, which must have the status.
func read[T any](n *testNode, status int, a answer) (v T) {
	n.t.Helper()
	if a.status != status {
		n.t.Fatalf("answered %d, want %d: %s", a.status, status, a.body)
	}
	v, err := decode[T](a.body)
	if err != nil {
		n.t.Fatalf("%v in %s", err, a.body)
	}
	return v
}

func decode[T any](text string) (v T, err error) {
	err = json.Unmarshal([]byte(text), &v)
	return v, err
}

func (n *testNode) putKey(id string) {
	n.t.Helper()
	n.putPEM(id, privatePEM())
}

func (n *testNode) putPEM(id, key string) {
	n.t.Helper()
	a := n.call(http.MethodPut, "/v1/keys", toJSON(map[string]string{"key_id": id, "private_key_pem": key}))
	if a.status != http.StatusCreated && a.status != http.StatusOK {
		n.t.Fatalf("put key: %d %s", a.status, a.body)
	}
}

// submission is a call of POST /v1/activities. Activity goes out byte for byte.
type submission struct {
	activity string
	inboxes  []string
	more     string // further members, each after a comma
}

// String is the body of the call.
func (s submission) String() string {
	more := s.more
	if !strings.Contains(more, `"key_id"`) {
		more += `,"key_id":` + toJSON(keyID)
	}
	return fmt.Sprintf(`{"activity":%s,"inboxes":%s%s}`, s.activity, toJSON(s.inboxes), more)
}

func (n *testNode) accept(s submission) acceptedView {
	n.t.Helper()
	return read[acceptedView](n, http.StatusAccepted, n.call(http.MethodPost, "/v1/activities", s.String()))
}

// deliver accepts an activity for one inbox.
func (n *testNode) deliver(activity, inbox string, more ...string) acceptedView {
	n.t.Helper()
	return n.accept(submission{activity: activity, inboxes: []string{inbox}, more: strings.Join(more, "")})
}

// activity looks an activity up. Its counts must add up whenever they are looked at.
func (n *testNode) activity(a acceptedView) activityView {
	n.t.Helper()
	v := get[activityView](n, a.URL)
	if c := v.Counts; c.Total != a.Accepted || c.Total != c.Pending+c.Delivered+c.Dead+c.Cancelled {
		n.t.Errorf("counts of %d deliveries: %+v", a.Accepted, c)
	}
	return v
}

func (n *testNode) host(host string) hostView {
	n.t.Helper()
	return get[hostView](n, "/v1/hosts/"+url.PathEscape(host))
}

func (n *testNode) deliveries(a acceptedView) []deliveryView {
	n.t.Helper()
	return get[page[deliveryView]](n, a.URL+"/deliveries?limit=500").Items
}

func (n *testNode) deadLetters(query string) []deadLetterView {
	n.t.Helper()
	return get[page[deadLetterView]](n, "/v1/dead-letters?"+query).Items
}

// settled waits until nothing of the activity is pending, and returns its counts.
func (n *testNode) settled(a acceptedView) (counts countsView) {
	n.t.Helper()
	eventually(n.t, "nothing pending of "+a.ID, func() bool {
		counts = n.activity(a).Counts
		return counts.Pending == 0
	})
	return counts
}

// like makes an activity that nothing has to wait for.
func like(id string) string {
	return fmt.Sprintf(`{"@context":"https://www.w3.org/ns/activitystreams","id":"https://app.example/likes/%s",`+
		`"type":"Like","actor":"https://app.example/users/alice","object":"https://remote.example/notes/1"}`, id)
}

func toJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and lists of strings only
	}
	return string(text)
}
