// Package keyctl is the keys command: it lists, adds, removes and re-seals the private keys of a running node over the
// node's API, so that it works on every store and while deliveries go on.
//
// What callers may rely on: a private key is read only from a file or from standard input, is sent only to the node, and is
// in no error and no output; redirects are not followed, so neither key nor token is sent to another server; errors are
// one line.
//
// What callers may not rely on: that the copies of a private key that net/http makes are wiped.
package keyctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"

	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/kits/go/client"
)

// Run runs the command and writes its result to out. It reads a key from in if the file is "-".
func Run(ctx context.Context, call config.KeysCall, in io.Reader, out io.Writer) error {
	// Each call is made once: the operator waits for its result.
	c := client.New(client.Options{URL: call.URL, Token: call.Token.Reveal(), Patience: -1})
	defer c.CloseIdleConnections()
	err := fmt.Errorf("no action %q", call.Action)
	switch call.Action {
	case "list":
		err = list(ctx, c, call.JSON, out)
	case "add":
		err = add(ctx, c, call, in, out)
	case "remove":
		err = remove(ctx, c, call.KeyID, out)
	case "reseal":
		err = reseal(ctx, c, out)
	}
	if err != nil {
		return fmt.Errorf("keys %s: %w", call.Action, shown(err))
	}
	return nil
}

// key is a key as the API describes it.
type key struct {
	ID          text `json:"key_id"`
	Algorithm   text `json:"algorithm"`
	Fingerprint text `json:"fingerprint"`
	SealedWith  text `json:"sealed_with"`
	CreatedAt   text `json:"created_at"`
}

// list writes all keys: a table, or a JSON list of the API's objects.
func list(ctx context.Context, c *client.Client, asJSON bool, out io.Writer) error {
	items := []json.RawMessage{}
	for item, err := range client.List[json.RawMessage](ctx, c, "/v1/keys", nil) {
		if err != nil {
			return err
		}
		items = append(items, item)
	}
	if asJSON {
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(items)
	}
	return writeTable(items, out)
}

func writeTable(items []json.RawMessage, out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KEY ID\tALGORITHM\tFINGERPRINT\tSEALED WITH\tCREATED AT")
	for _, item := range items {
		var k key
		if err := json.Unmarshal(item, &k); err != nil {
			return client.ErrNotPostrider
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", k.ID, k.Algorithm, k.Fingerprint, k.SealedWith, k.CreatedAt)
	}
	return t.Flush()
}

// maxFile is far more than the size of any key that is accepted.
const maxFile = 64 << 10

func add(ctx context.Context, c *client.Client, call config.KeysCall, in io.Reader, out io.Writer) error {
	text, err := config.ReadBounded(call.File, in, maxFile)
	defer clear(text)
	if errors.Is(err, config.ErrTooLarge) {
		return errors.New("that is too long for a private key")
	}
	if err != nil {
		return err
	}
	body, err := json.Marshal(struct {
		ID  string `json:"key_id"`
		PEM string `json:"private_key_pem"`
	}{call.KeyID, string(text)})
	defer clear(body)
	if err != nil {
		return errors.New("the key can't be sent") // without the cause, which might quote the key
	}
	var k key
	status, err := c.Do(ctx, http.MethodPut, "/v1/keys", body, &k)
	if err != nil {
		return err
	}
	done := "replaced"
	if status == http.StatusCreated {
		done = "added"
	}
	_, err = fmt.Fprintf(out, "%s %s: %s, %s\n", done, k.ID, k.Algorithm, k.Fingerprint)
	return err
}

func remove(ctx context.Context, c *client.Client, keyID string, out io.Writer) error {
	if _, err := c.Do(ctx, http.MethodDelete, "/v1/keys?key_id="+url.QueryEscape(keyID), nil, nil); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "removed %s\n", keyID)
	return err
}

// reseal returns an error if any key could not be resealed: then the old master key is still needed.
func reseal(ctx context.Context, c *client.Client, out io.Writer) error {
	var result struct {
		Total, Resealed, Failed int
		Seal                    text
	}
	if _, err := c.Do(ctx, http.MethodPost, "/v1/keys/reseal", nil, &result); err != nil {
		return err
	}
	if result.Failed > 0 {
		return fmt.Errorf("%d of %d keys can't be opened with any master key of the node and stay as they are; its log names them",
			result.Failed, result.Total)
	}
	_, err := fmt.Fprintf(out, "resealed %d of %d keys; all are sealed with master key %s\n",
		result.Resealed, result.Total, result.Seal)
	return err
}
