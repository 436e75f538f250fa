package config

import (
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"time"
)

// LogValue implements slog.LogValuer: every setting by its name, without secrets.
func (c Config) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("command", string(c.Command))}
	v := reflect.ValueOf(c)
	for f := range settings() {
		attrs = append(attrs, slog.Any(f.Tag.Get("name"), logged(v.FieldByIndex(f.Index).Interface())))
	}
	return slog.GroupValue(attrs...)
}

// logged returns a value in the form of the command line.
func logged(value any) any {
	switch v := value.(type) {
	case []Token:
		names := make([]string, len(v))
		for i, t := range v {
			names[i] = t.Name
		}
		return strings.Join(names, ",")
	case []Secret:
		return strings.TrimSuffix(strings.Repeat(redacted+",", len(v)), ",")
	case Secret:
		return v
	case time.Duration, Store, slog.Level:
		return fmt.Sprint(v)
	case int, bool, string:
		return v
	default: // lists
		return strings.Join(strings.Fields(strings.Trim(fmt.Sprint(v), "[]")), ",")
	}
}

// NewLogger returns a logger that writes lines of the format to w: text or json, or for auto text if isTTY, else json.
func NewLogger(format string, level slog.Level, w io.Writer, isTTY bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "text" || format == "auto" && isTTY {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
