package telemetry

import (
	"context"
	"io"
	"log/slog"

	"github.com/postrider/postrider/internal/printable"
)

// maxText is how many characters of a line a Writer keeps.
const maxText = 200

// NewWriter returns a writer for a logger of the standard library that other libraries write to. net/http writes a line
// there for each error of a client, with text of the client's in it. The writer logs a sample of the lines at level debug
// under the event's name, shortened and made printable. It only counts the others.
func NewWriter(log *slog.Logger, event string) io.Writer { return &writer{log: log, event: event} }

type writer struct {
	log     *slog.Logger
	event   string
	sampler Sampler
}

// Write implements io.Writer. It never fails.
func (w *writer) Write(line []byte) (int, error) {
	if !w.log.Enabled(context.Background(), slog.LevelDebug) {
		return len(line), nil
	}
	if skipped, ok := w.sampler.Allow(""); ok {
		w.log.Debug(w.event, "text", printable.Line(string(line), maxText), "lines_suppressed", skipped) //nolint:sloglint // a writer has one event
	}
	return len(line), nil
}
