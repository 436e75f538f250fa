package relay

import (
	"encoding/json"
	"net/http"
)

// Handler serves /healthz, /readyz and, by the handler given, /metrics. None of these reveals what is in the outbox.
func (r *Relay) Handler(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeOK(w) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if reason, err := r.Ready(); err != nil {
			writeNotReady(w, reason)
			return
		}
		writeOK(w)
	})
	return mux
}

func writeOK(w http.ResponseWriter) {
	write(w, http.StatusOK, "application/json", map[string]any{"status": "ok"})
}

// writeNotReady answers as a node does. The error itself, which may name addresses, is in the log only.
func writeNotReady(w http.ResponseWriter, reason string) {
	const status = http.StatusServiceUnavailable
	write(w, status, "application/problem+json", map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": reason, "reason": reason,
	})
}

func write(w http.ResponseWriter, status int, mediaType string, body map[string]any) {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // an error means that the client has gone
}
