package keyctl

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/postrider/postrider/internal/printable"
	"github.com/postrider/postrider/kits/go/client"
)

const maxText = 2000 // characters of one text that is shown

// shown returns an error of the client as a line for a terminal.
func shown(err error) error {
	refused, ok := errors.AsType[*client.Error](err)
	switch {
	case !ok:
		return err
	case refused.Status == http.StatusUnauthorized:
		return errors.New("the node wants a token of its api-tokens: --token, POSTRIDER_TOKEN or api-tokens")
	case refused.Title == "" && refused.Detail == "":
		return fmt.Errorf("answered %w: %w", refused, client.ErrNotPostrider)
	}
	return errors.New(printable.Line(refused.Error(), maxText))
}

// text is text of an answer, made safe for a terminal: any server may answer at the URL.
type text string

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *text) UnmarshalText(b []byte) error {
	*t = text(printable.Line(string(b), maxText))
	return nil
}
