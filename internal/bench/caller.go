package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// caller sends requests that were prepared before to a node, over its own connection: the less CPU it uses, the more is left
// for the node on the same machine.
type caller struct {
	conn   net.Conn
	answer *bufio.Reader
	body   bytes.Buffer // of the latest answer
}

// dial connects a caller.
func (a *api) dial(ctx context.Context) (*caller, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", strings.TrimPrefix(a.url, "http://"))
	if err != nil {
		return nil, err
	}
	return &caller{conn: conn, answer: bufio.NewReader(conn)}, nil
}

// prepare returns the bytes of a call that submits body.
func (a *api) prepare(body []byte) ([]byte, error) {
	req, err := http.NewRequest(http.MethodPost, a.url+"/v1/activities", bytes.NewReader(body)) //nolint:noctx // only its bytes are used
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	var b bytes.Buffer
	err = req.Write(&b)
	return b.Bytes(), err
}

// accepted sends a prepared call with one inbox, and returns an error unless it was accepted.
func (c *caller) accepted(request []byte) error {
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	status, length, err := c.head()
	if err != nil {
		return err
	}
	c.body.Reset()
	if _, err := io.CopyN(&c.body, c.answer, length); err != nil {
		return err
	}
	if !strings.Contains(status, " 202 ") || !bytes.Contains(c.body.Bytes(), []byte(`"accepted":1,`)) {
		return fmt.Errorf("not accepted: %s: %s", status, c.body.Bytes())
	}
	return nil
}

// head reads the head of an answer.
func (c *caller) head() (status string, length int64, err error) {
	for {
		line, err := c.answer.ReadSlice('\n')
		if err != nil {
			return "", 0, err
		}
		switch line = bytes.TrimSpace(line); {
		case len(line) == 0:
			return status, length, nil
		case status == "":
			status = string(line)
		case bytes.HasPrefix(line, []byte("Content-Length: ")):
			if length, err = strconv.ParseInt(string(line[len("Content-Length: "):]), 10, 64); err != nil {
				return "", 0, err
			}
		}
	}
}

// submit sends every step-th call from the first on, one after the other.
func (c *caller) submit(calls [][]byte, first, step int) error {
	for i := first; i < len(calls); i += step {
		if err := c.accepted(calls[i]); err != nil {
			return err
		}
	}
	return nil
}
