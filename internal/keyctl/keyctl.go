// Package keyctl is the keys command: it lists, adds, removes and re-seals the private keys of a running node over the
// node's API, so that it works on every store and while deliveries go on.
//
// What callers may rely on: a private key is read from a file or from standard input only, goes nowhere but to the node,
// and is in no error and no output; a redirect is not followed, so neither key nor token can be led elsewhere; errors are
// of one line.
//
// What callers may not rely on: that what was read of a private key is wiped wherever net/http copied it.
package keyctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"text/tabwriter"

	"github.com/postrider/postrider/internal/config"
)

// Run does what was called for and writes what came of it to out. In is where a key is read from if its file is "-".
func Run(ctx context.Context, call config.KeysCall, in io.Reader, out io.Writer) error {
	a := newAPI(call.URL, call.Token.Reveal())
	defer a.client.CloseIdleConnections()
	err := fmt.Errorf("no action %q", call.Action)
	switch call.Action {
	case "list":
		err = list(ctx, a, call.JSON, out)
	case "add":
		err = add(ctx, a, call, in, out)
	case "remove":
		err = remove(ctx, a, call.KeyID, out)
	case "reseal":
		err = reseal(ctx, a, out)
	}
	if err != nil {
		return fmt.Errorf("keys %s: %w", call.Action, err)
	}
	return nil
}

// key is what the API tells of a key.
type key struct {
	ID          string `json:"key_id"`
	Algorithm   string `json:"algorithm"`
	Fingerprint string `json:"fingerprint"`
	SealedWith  string `json:"sealed_with"`
	CreatedAt   string `json:"created_at"`
}

// list writes all keys: a table, or a JSON list of what the API tells of each.
func list(ctx context.Context, a *api, asJSON bool, out io.Writer) error {
	items := []json.RawMessage{}
	for cursor := ""; ; {
		var page struct {
			Items []json.RawMessage `json:"items"`
			Next  string            `json:"next_cursor"`
		}
		path := "/v1/keys?limit=500&cursor=" + url.QueryEscape(cursor)
		if _, err := a.call(ctx, http.MethodGet, path, nil, &page); err != nil {
			return err
		}
		items = append(items, page.Items...)
		if cursor = page.Next; cursor == "" {
			break
		}
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
			return errStrange
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", k.ID, k.Algorithm, k.Fingerprint, k.SealedWith, k.CreatedAt)
	}
	return t.Flush()
}

// maxFile is far more than any key accepted takes.
const maxFile = 64 << 10

func add(ctx context.Context, a *api, call config.KeysCall, in io.Reader, out io.Writer) error {
	text, err := readKey(call.File, in)
	defer clear(text)
	if err != nil {
		return err
	}
	body, err := json.Marshal(struct {
		ID  string `json:"key_id"`
		PEM string `json:"private_key_pem"`
	}{call.KeyID, string(text)})
	defer clear(body)
	if err != nil {
		return errors.New("the key can't be sent") // the cause is left out, lest it quotes the key
	}
	var k key
	status, err := a.call(ctx, http.MethodPut, "/v1/keys", body, &k)
	if err != nil {
		return err
	}
	did := "replaced"
	if status == http.StatusCreated {
		did = "added"
	}
	_, err = fmt.Fprintf(out, "%s %s: %s, %s\n", did, k.ID, k.Algorithm, k.Fingerprint)
	return err
}

// readKey reads the file of a key, or what comes from standard input.
func readKey(file string, in io.Reader) ([]byte, error) {
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text := make([]byte, maxFile)
	n, err := io.ReadFull(in, text)
	switch {
	case err == nil:
		clear(text)
		return nil, errors.New("that is too long for a private key")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return text[:n], nil
	}
	clear(text)
	return nil, fmt.Errorf("read the key: %w", err)
}

func remove(ctx context.Context, a *api, keyID string, out io.Writer) error {
	if _, err := a.call(ctx, http.MethodDelete, "/v1/keys?key_id="+url.QueryEscape(keyID), nil, nil); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "removed %s\n", keyID)
	return err
}

// reseal fails if a key is left sealed otherwise: then the old master key is still needed.
func reseal(ctx context.Context, a *api, out io.Writer) error {
	var did struct {
		Total, Resealed, Failed int
		Seal                    string
	}
	if _, err := a.call(ctx, http.MethodPost, "/v1/keys/reseal", nil, &did); err != nil {
		return err
	}
	if did.Failed > 0 {
		return fmt.Errorf("%d of %d keys can't be opened with any master key of the node and stay as they are; its log names them",
			did.Failed, did.Total)
	}
	_, err := fmt.Fprintf(out, "resealed %d of %d keys; all are sealed with master key %s\n", did.Resealed, did.Total, did.Seal)
	return err
}
