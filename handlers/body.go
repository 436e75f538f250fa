package handlers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	maxCall     = 64 << 20  // an intake call: 100,000 recipients of 600 bytes, and the activity
	maxKeyCall  = 256 << 10 // a key call: an RSA key of 8192 bits is 7 KiB of PEM
	maxBodies   = 128 << 20 // all bodies held at one time
	firstPart   = 1 << 20   // what room is made for where a call does not tell its size
	bodyWait    = 10 * time.Second
	bodyTimeout = time.Minute // to send a body
)

// bodies reads request bodies and bounds what of them is held at one time.
type bodies struct {
	room    *semaphore.Weighted
	wait    time.Duration // for room
	timeout time.Duration // for the whole body to come
}

func newBodies() *bodies {
	return &bodies{room: semaphore.NewWeighted(maxBodies), wait: bodyWait, timeout: bodyTimeout}
}

// read reads a request's JSON body of at most limit bytes; a limit of 0 means that the route has none. The body counts
// against the room until release is called.
func (b *bodies) read(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, release func(), err error) {
	if limit == 0 {
		return nil, func() {}, nil
	}
	if err := checkHead(w, r, limit); err != nil {
		return nil, nil, err
	}
	size := r.ContentLength
	if size < 0 {
		size = min(limit, firstPart)
	}
	room := &room{bodies: b, r: r}
	if err := room.grow(size); err != nil {
		return nil, nil, err
	}
	if body, err = b.receive(w, r, limit, room); err != nil {
		room.release()
		return nil, nil, err
	}
	return body, room.release, nil
}

// room is what one body takes of the room for all.
type room struct {
	bodies *bodies
	r      *http.Request
	size   int64
}

// grow makes it so large, or says that there is no room.
func (m *room) grow(size int64) error {
	if m.bodies.room.TryAcquire(size - m.size) {
		m.size = size
		return nil
	}
	ctx, cancel := context.WithTimeout(m.r.Context(), m.bodies.wait)
	defer cancel()
	if m.bodies.room.Acquire(ctx, size-m.size) != nil {
		return &problem{Status: http.StatusServiceUnavailable, Detail: "too many large calls at once", retryAfter: m.bodies.wait}
	}
	m.size = size
	return nil
}

func (m *room) release() { m.bodies.room.Release(m.size) }

// checkHead refuses what the head of a request tells is not for us, before any of the body is read.
func checkHead(w http.ResponseWriter, r *http.Request, limit int64) error {
	switch mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mediaType {
	case "application/json", "application/activity+json", "application/ld+json":
	default:
		return &problem{Status: http.StatusUnsupportedMediaType, Detail: "Content-Type must be application/json"}
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
func (b *bodies) receive(w http.ResponseWriter, r *http.Request, limit int64, room *room) ([]byte, error) {
	// A writer without deadlines keeps those of its server. The server lifts this one when it has seen the body's end.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(b.timeout))
	body, err := readAll(http.MaxBytesReader(w, r.Body, limit), r.ContentLength, room, limit)
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

// readAll reads a body into a slice of its size, if that is known. If it is not, a body that outgrows its room needs
// room for the largest there may be.
func readAll(r io.Reader, size int64, room *room, limit int64) ([]byte, error) {
	var buf bytes.Buffer
	if size > 0 {
		buf.Grow(int(size) + bytes.MinRead) // ReadFrom wants that much room to see the end
	}
	if _, err := buf.ReadFrom(io.LimitReader(r, room.size)); err != nil {
		return nil, err
	}
	if int64(buf.Len()) == room.size && size < 0 && room.size < limit {
		if err := room.grow(limit); err != nil {
			return nil, err
		}
	}
	_, err := buf.ReadFrom(r)
	return buf.Bytes(), err
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
