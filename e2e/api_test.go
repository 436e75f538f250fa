package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/postrider/postrider/e2e/harness"
)

// The answers of the API, as far as the tests need them.
type (
	acceptedView struct {
		ID         string
		Accepted   int
		Duplicates int
		Rejected   []faultView
		URL        string
	}
	faultView struct{ Location, Message, Code, Inbox, Reason, Detail string }

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
		Metadata   any
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
		FailureDays   int      `json:"failure_days"`
		FailedOn      []string `json:"failed_on"`
		Refusals      int
		Scheme        string      `json:"signature_scheme"`
		LastSuccessAt time.Time   `json:"last_success_at"`
		LastAnswerAt  time.Time   `json:"last_answer_at"`
		LastError     attemptView `json:"last_error"`
	}
	deadLetterView struct {
		ID, Inbox, Host, Reason string
		ActivityID              string `json:"activity_id"`
		Attempts                int
		LastAttempt             attemptView `json:"last_attempt"`
		DiedAt                  time.Time   `json:"died_at"`
		IDs                     []string
		Metadata                any
	}
	keyView struct {
		KeyID       string `json:"key_id"`
		Algorithm   string
		PublicPEM   string `json:"public_key_pem"`
		Fingerprint string
		SealedWith  string `json:"sealed_with"`
		Pending     int
		WhenIdle    bool      `json:"removed_when_idle"`
		CreatedAt   time.Time `json:"created_at"`
	}
	page[T any] struct {
		Items []T
		Next  string `json:"next_cursor"`
	}
)

// problem reads the body of an error.
func problemOf(a harness.Answer) (p problemView, err error) {
	if got := a.Header.Get("Content-Type"); got != "application/problem+json" {
		return p, fmt.Errorf("Content-Type %q", got)
	}
	return p, json.Unmarshal([]byte(a.Body), &p)
}

// tryFunc is the type of try.
type tryFunc = func(method, path string, body io.Reader, headers ...string) (harness.Answer, error)

// get reads the answer of a path.
func get[T any](n *testNode, path string) (v T) {
	n.T.Helper()
	return read[T](n, http.StatusOK, n.Call(http.MethodGet, path, ""))
}

// read reads an answer, which must have the status.
func read[T any](n *testNode, status int, a harness.Answer) (v T) {
	n.T.Helper()
	n.Read(status, a, &v)
	return v
}

func decode[T any](text string) (v T, err error) {
	err = json.Unmarshal([]byte(text), &v)
	return v, err
}

func (n *testNode) putKey(id string) {
	n.T.Helper()
	n.PutKey(id, privatePEM())
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
		more += `,"key_id":` + harness.JSON(keyID)
	}
	return fmt.Sprintf(`{"activity":%s,"inboxes":%s%s}`, s.activity, harness.JSON(s.inboxes), more)
}

func (n *testNode) accept(s submission) acceptedView {
	n.T.Helper()
	return read[acceptedView](n, http.StatusAccepted, n.Call(http.MethodPost, "/v1/activities", s.String()))
}

// deliver accepts an activity for one inbox.
func (n *testNode) deliver(activity, inbox string, more ...string) acceptedView {
	n.T.Helper()
	return n.accept(submission{activity: activity, inboxes: []string{inbox}, more: strings.Join(more, "")})
}

// activity looks an activity up. Its counts must add up whenever they are looked at.
func (n *testNode) activity(a acceptedView) activityView {
	n.T.Helper()
	v := get[activityView](n, a.URL)
	if c := v.Counts; c.Total != a.Accepted || c.Total != c.Pending+c.Delivered+c.Dead+c.Cancelled {
		n.T.Errorf("counts of %d deliveries: %+v", a.Accepted, c)
	}
	return v
}

func (n *testNode) host(host string) hostView {
	n.T.Helper()
	return get[hostView](n, "/v1/hosts/"+url.PathEscape(host))
}

func (n *testNode) deliveries(a acceptedView) []deliveryView {
	n.T.Helper()
	return get[page[deliveryView]](n, a.URL+"/deliveries?limit=500").Items
}

func (n *testNode) deadLetters(query string) []deadLetterView {
	n.T.Helper()
	return get[page[deadLetterView]](n, "/v1/dead-letters?"+query).Items
}

// settled waits until nothing of the activity is pending, and returns its counts.
func (n *testNode) settled(a acceptedView) (counts countsView) {
	n.T.Helper()
	harness.Eventually(n.T, "nothing pending of "+a.ID, func() bool {
		counts = n.activity(a).Counts
		return counts.Pending == 0
	})
	return counts
}

// like makes an activity that no other has to wait for.
func like(id string) string {
	return fmt.Sprintf(`{"@context":"https://www.w3.org/ns/activitystreams","id":"https://app.example/likes/%[1]s",`+
		`"type":"Like","actor":"https://app.example/users/alice","object":"https://remote.example/notes/%[1]s"}`, id)
}
