package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	callTimeout = 90 * time.Second // a node takes up to a minute
	maxAnswer   = 256 << 20
	longestWait = 5 * time.Minute // that a node can ask for
)

// results are those of the rows of a batch. Rows in neither list are handed over again.
type results struct {
	rows       int // that were handed over
	accepted   []int64
	refused    []refusal
	replayed   int           // of those accepted, the ones that the node had already
	rejected   int           // inboxes of accepted rows that the node rejected
	away       error         // why the node did not take all rows, nil if it did
	retryAfter time.Duration // as it asked, 0 if it did not
}

// refusal is the reason why a row will never be accepted: a problem document.
type refusal struct {
	id     int64
	reason string
}

// answer is a line of the answer to a batch.
type answer struct {
	Status     int               `json:"status"`
	Replayed   bool              `json:"replayed"`
	Detail     string            `json:"detail"`
	RetryAfter int               `json:"retry_after"`
	Rejected   []json.RawMessage `json:"rejected"`
}

var errStrange = errors.New("the answer is none of a Postrider node: is the URL right?")

// handOver makes a batch of the rows' calls, and returns what became of each.
func (r *Relay) handOver(ctx context.Context, rows []row) (all results) {
	var body bytes.Buffer
	for _, row := range rows {
		row.appendLine(&body)
	}
	all.rows = len(rows)
	all.away = r.post(ctx, &body, rows, &all)
	return all
}

// post sends a batch and adds the results of its rows. The error says why not all of them are known.
func (r *Relay) post(ctx context.Context, body *bytes.Buffer, rows []row, all *results) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL+"/v1/activities/batch", body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	if r.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.Token)
	}
	began := time.Now()
	resp, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	defer func() { r.metrics.took.Observe(time.Since(began).Seconds()) }()
	if resp.StatusCode != http.StatusOK {
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		all.wait(seconds)
		return problemOf(resp)
	}
	lines := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer))
	for _, row := range rows {
		if err := all.read(lines, row.ID); err != nil {
			return err
		}
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 1<<10) // the end of the answer, so that the connection can be used again
	return all.away
}

// read adds the result of a row from the next line of an answer.
func (all *results) read(lines *json.Decoder, id int64) error {
	var text json.RawMessage
	if err := lines.Decode(&text); err != nil {
		return fmt.Errorf("the node's answer ended early: %w", err)
	}
	var a answer
	if json.Unmarshal(text, &a) != nil {
		return errStrange
	}
	switch {
	case a.Status == http.StatusAccepted:
		all.accepted = append(all.accepted, id)
		all.rejected += len(a.Rejected)
		if a.Replayed {
			all.replayed++
		}
	case a.Status == http.StatusTooManyRequests || a.Status >= 500:
		all.away = fmt.Errorf("the node answered %d to a row: %s", a.Status, a.Detail)
		all.wait(a.RetryAfter)
	case a.Status >= 400:
		all.refused = append(all.refused, refusal{id, string(text)})
	default:
		return errStrange
	}
	return nil
}

// wait notes how long a node asked to wait.
func (all *results) wait(seconds int) {
	all.retryAfter = max(all.retryAfter, min(time.Duration(seconds)*time.Second, longestWait))
}

// problemOf returns the error of a batch that was answered as a whole. This is never the fault of a row: the relay sends
// nothing that a node refuses as a whole, but a token, a URL or a proxy may be wrong.
func problemOf(resp *http.Response) error {
	var p struct{ Detail string }
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if json.Unmarshal(text, &p) != nil || p.Detail == "" {
		return fmt.Errorf("answered %d: %w", resp.StatusCode, errStrange)
	}
	return fmt.Errorf("the node answered %d: %s", resp.StatusCode, p.Detail)
}

// appendLine writes the row's call as a line of a batch, with its keys. The table accepts only valid JSON objects, so a line
// break can only be between tokens.
func (r *row) appendLine(line *bytes.Buffer) {
	members := map[string]string{"idempotency_key": r.key()}
	if r.OrderingKey != nil {
		members["ordering_key"] = *r.OrderingKey
	}
	head, err := json.Marshal(members)
	if err != nil {
		panic(err) // these are texts
	}
	_, rest, _ := strings.Cut(r.Call, "{")
	rest = strings.TrimLeft(strings.ReplaceAll(rest, "\n", " "), " \t\r")
	line.Write(bytes.TrimSuffix(head, []byte("}")))
	if !strings.HasPrefix(rest, "}") {
		line.WriteByte(',')
	}
	line.WriteString(rest)
	line.WriteByte('\n')
}
