package handlers

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"
)

const (
	maxCall     = 64 << 20  // an intake call: 100,000 recipients of 600 bytes, and the activity
	maxKeyCall  = 256 << 10 // a key call: an RSA key of 8192 bits is 7 KiB of PEM
	maxNoBody   = 4 << 10   // where a route has no body
	maxBodies   = 128 << 20 // all bodies held at one time
	firstPart   = 64 << 10  // what room is made for before more has come
	bodyWait    = 10 * time.Second
	bodyTimeout = time.Minute // to send a body
)

// bodies reads request bodies and bounds what of them is held at one time.
type bodies struct {
	room    *shares
	wait    time.Duration // for room
	timeout time.Duration // for the whole body to come
}

// The types of bodies. Errors name the first of each.
var (
	jsonTypes = []string{"application/json", activityType, "application/ld+json"}
	lineTypes = []string{"application/x-ndjson"}
)

// read reads a request's body of one of the types and at most limit bytes; a limit of 0 means that the route has none.
// The body counts against the room until release is called.
func (b *bodies) read(
	w http.ResponseWriter, r *http.Request, limit int64, types []string,
) (body []byte, release func(), err error) {
	if limit == 0 {
		return nil, func() {}, nil
	}
	if err := checkHead(w, r, limit, types); err != nil {
		return nil, nil, err
	}
	room := b.room.claim(visitOf(r).token)
	if body, err = b.receive(w, r, limit, room); err != nil {
		room.release()
		return nil, nil, err
	}
	return body, room.release, nil
}

// grow makes a claim so large, or returns the problem that there is no room; the claim is empty then. Of several bodies that
// wait for one another, the one of which least has come times out first, and the others get its room.
func (b *bodies) grow(ctx context.Context, room *claim, size int64) error {
	more := size - room.held
	if room.tryGrow(more) {
		return nil
	}
	wait := b.wait + time.Duration(float64(b.wait)*float64(room.held)/maxCall)
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if room.grow(ctx, more) != nil {
		return &problem{Status: http.StatusServiceUnavailable, Detail: "too many large calls at once", retryAfter: b.wait}
	}
	return nil
}

// checkHead refuses a request by its headers, before any of the body is read.
func checkHead(w http.ResponseWriter, r *http.Request, limit int64, types []string) error {
	if mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); !slices.Contains(types, mediaType) {
		return &problem{Status: http.StatusUnsupportedMediaType, Detail: "Content-Type must be " + types[0]}
	}
	if r.Header.Get("Content-Encoding") != "" {
		return &problem{Status: http.StatusUnsupportedMediaType, Detail: "the body must not be encoded"}
	}
	if r.ContentLength > limit {
		return tooLarge(w, limit)
	}
	return nil
}

// receive reads the body within the time allowed.
func (b *bodies) receive(w http.ResponseWriter, r *http.Request, limit int64, room *claim) ([]byte, error) {
	// A writer without deadlines keeps those of its server. The server lifts this one when it has seen the body's end.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(b.timeout))
	makeRoom := func(size int64) error { return b.grow(r.Context(), room, size) }
	body, err := readAll(http.MaxBytesReader(w, r.Body, limit), r.ContentLength, limit, makeRoom)
	if err == nil {
		return body, nil
	}
	if p, ok := errors.AsType[*problem](err); ok {
		w.Header().Set("Connection", "close")
		return nil, p
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge(w, limit)
	}
	w.Header().Set("Connection", "close")
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, &problem{Status: http.StatusRequestTimeout, Detail: "the body took too long"}
	}
	return nil, &problem{Status: http.StatusBadRequest, Detail: "the body broke off"}
}

// readAll reads a body of a size, -1 if it is not known, and makes room for it as it comes: what a request says of its
// size costs nothing before the bytes are there.
func readAll(r io.Reader, size, limit int64, makeRoom func(int64) error) ([]byte, error) {
	var body []byte
	for {
		if len(body) == cap(body) {
			larger := max(firstPart, 2*int64(cap(body)))
			if int64(len(body)) <= size {
				larger = min(larger, size+1) // to see the end
			}
			larger = min(larger, limit+1)
			if err := makeRoom(min(larger, limit)); err != nil {
				return nil, err
			}
			body = append(make([]byte, 0, larger), body...)
		}
		n, err := r.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			return nil, err
		}
	}
}

func tooLarge(w http.ResponseWriter, limit int64) error {
	w.Header().Set("Connection", "close")
	return &problem{Status: http.StatusRequestEntityTooLarge, Detail: "the body is larger than " + size(limit)}
}

// size writes a limit for people.
func size(bytes int64) string {
	if bytes < 1<<20 {
		return strconv.FormatInt(bytes>>10, 10) + " KiB"
	}
	return strconv.FormatInt(bytes>>20, 10) + " MiB"
}
