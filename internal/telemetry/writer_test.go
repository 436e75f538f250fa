package telemetry_test

import (
	"bytes"
	"log"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/internal/telemetry"
)

func TestWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		debug := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
		std := log.New(telemetry.NewWriter(debug, "library.log"), "", 0)
		for range 100_000 {
			std.Printf("Unsolicited response starting with %s", "\x1b[31m"+strings.Repeat("x", 4096))
		}
		time.Sleep(telemetry.Interval)
		std.Print("again")
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 2 || len(lines[0]) > 400 || strings.Contains(out.String(), "\x1b") ||
			!strings.Contains(lines[0], "level=DEBUG msg=library.log") || !strings.HasSuffix(lines[1], "text=again lines_suppressed=99999") {
			t.Errorf("%d lines: %.2000s", len(lines), out.String())
		}
	})
}

func TestWriterAboveDebug(t *testing.T) {
	var out bytes.Buffer
	info := slog.New(slog.NewTextHandler(&out, nil))
	n, err := telemetry.NewWriter(info, "library.log").Write([]byte("line\n"))
	if n != 5 || err != nil || out.Len() > 0 {
		t.Errorf("wrote %d, %v: %q", n, err, out.String())
	}
}
