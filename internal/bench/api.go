package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// api is a node's API as an app sees it.
type api struct {
	url    string
	client *http.Client
}

func newAPI(address string) *api {
	return &api{"http://" + address, &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: callers}}}
}

// call calls the API with a body, if there is one, and returns the answer.
func (a *api) call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode > 299 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	return answer, err
}

func (a *api) putKey(ctx context.Context, pem string) error {
	body, err := json.Marshal(map[string]string{"key_id": keyID, "private_key_pem": pem})
	if err != nil {
		return err
	}
	_, err = a.call(ctx, http.MethodPut, "/v1/keys", body)
	return err
}

// submission returns the body of a call for an activity to inboxes.
func submission(activity []byte, inboxes []string) []byte {
	body, err := json.Marshal(map[string]any{"activity": json.RawMessage(activity), "key_id": keyID, "inboxes": inboxes})
	if err != nil {
		panic(err) // strings, and JSON made here
	}
	return body
}

// submit submits an activity. It returns the activity's ID and the time of the answer, or an error unless the node accepted
// the wanted number of deliveries.
func (a *api) submit(ctx context.Context, body []byte, want int) (id string, at time.Time, err error) {
	answer, err := a.call(ctx, http.MethodPost, "/v1/activities", body)
	at = time.Now()
	if err != nil {
		return "", at, err
	}
	var receipt struct {
		ID       string
		Accepted int
	}
	if err := json.Unmarshal(answer, &receipt); err != nil {
		return "", at, err
	}
	if receipt.Accepted != want {
		return "", at, fmt.Errorf("%d deliveries of %d accepted: %s", receipt.Accepted, want, answer)
	}
	return receipt.ID, at, nil
}

// settled waits until all deliveries of an activity are in their lanes, as they are when they can be listed.
func (a *api) settled(ctx context.Context, id string) (time.Time, error) {
	_, err := a.call(ctx, http.MethodGet, "/v1/activities/"+id+"/deliveries?limit=1", nil)
	return time.Now(), err
}

// stats is the totals of the store.
type stats struct {
	Pending int
	Hosts   map[string]int // by state
}

// until waits until a condition holds.
func (a *api) until(ctx context.Context, what string, holds func(stats) bool) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); wait(ctx, 10*time.Millisecond) {
		answer, err := a.call(ctx, http.MethodGet, "/v1/stats", nil)
		if err != nil {
			return err
		}
		var s struct{ Fleet stats }
		if err := json.Unmarshal(answer, &s); err != nil {
			return err
		}
		if holds(s.Fleet) {
			return nil
		}
	}
	return fmt.Errorf("not within %s: %s", patience, what)
}

// connections returns the number of connections that the node has made and used.
func (a *api) connections(ctx context.Context) (float64, error) {
	answer, err := a.call(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(answer)) {
		if value, found := strings.CutPrefix(line, `postrider_connections_total{reused="false"} `); found {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, nil // none yet
}

// makeActivity makes an activity of the size of a usual note.
func makeActivity(id string) []byte {
	const actor = "https://bench.example/users/alice"
	activity, err := json.Marshal(map[string]any{
		"@context": "https://www.w3.org/ns/activitystreams", "id": id, "type": "Create", "actor": actor,
		"to": []string{"https://www.w3.org/ns/activitystreams#Public"}, "cc": []string{actor + "/followers"},
		"object": map[string]any{
			"id": id + "/note", "type": "Note", "attributedTo": actor, "published": "2026-01-02T15:04:05Z",
			"content": "<p>" + strings.Repeat("Nothing is faster than these couriers. ", 45) + "</p>",
		},
	})
	if err != nil {
		panic(err) // strings only
	}
	return activity
}
