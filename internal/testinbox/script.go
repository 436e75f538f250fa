package testinbox

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Layer is the part of a connection that a hostile host does properly before it begins to misbehave.
type Layer int

// The layers.
const (
	TCP   Layer = iota // accepted the connection
	TLS                // accepted the connection, and read the client hello
	HTTP1              // made a TLS connection for HTTP/1.1, and read the head of the request
	HTTP2              // made a TLS connection for HTTP/2, sent its settings, and read the head of the request
)

// Script is how a hostile host treats each connection.
type Script struct {
	Name     string
	Layer    Layer
	Settings []http2.Setting // with HTTP2
	Chain    int             // bytes of certificates beside those that are needed
	Answers  int             // the status that the client sees, 0 if none, or -1 if that depends
	Play     func(*Peer)     // ends when the connection does
}

// Peer is a hostile host's end of one connection.
type Peer struct {
	net.Conn
	Framer *http2.Framer // with HTTP2
	Stream uint32        // of the request, with HTTP2
}

// Hostile is a number of hosts that follow a script, each on its own address of loopback.
type Hostile struct {
	script    Script
	ca        *authority
	listeners []net.Listener
	serving   sync.WaitGroup

	mu      sync.Mutex
	conns   map[net.Conn]bool // open; nil once closed; guarded by mu
	begun   int               // connections so far; guarded by mu
	changed chan struct{}     // closed when a connection begins or ends; guarded by mu
}

// StartHostile starts n hosts.
func StartHostile(n int, script Script) (*Hostile, error) {
	ca, err := newAuthority()
	if err != nil {
		return nil, err
	}
	h := &Hostile{script: script, ca: ca, conns: map[net.Conn]bool{}, changed: make(chan struct{})}
	for i := range n {
		if err := h.start(i); err != nil {
			return nil, errors.Join(err, h.Close())
		}
	}
	return h, nil
}

func (h *Hostile) start(i int) error {
	listener, err := listen(i)
	if err != nil {
		return err
	}
	h.listeners = append(h.listeners, listener)
	secure, err := h.ca.config(listener.Addr().(*net.TCPAddr).IP)
	if err != nil {
		return err
	}
	secure.NextProtos = []string{"http/1.1"}
	if h.script.Layer == HTTP2 {
		secure.NextProtos = []string{"h2"}
	}
	if h.script.Chain > 0 {
		padding, err := h.ca.padding(h.script.Chain)
		if err != nil {
			return err
		}
		secure.Certificates[0].Certificate = append(secure.Certificates[0].Certificate, padding)
	}
	h.serving.Go(func() { h.accept(listener, secure) })
	return nil
}

func (h *Hostile) accept(listener net.Listener, secure *tls.Config) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		if h.note(conn, true) {
			h.serving.Go(func() {
				defer h.note(conn, false)
				h.serve(conn, secure)
			})
		}
	}
}

// note records that a connection is open, or closes it. It reports whether the host is still open.
func (h *Hostile) note(conn net.Conn, open bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conns == nil || !open {
		delete(h.conns, conn)
		_ = conn.Close()
	} else {
		h.conns[conn] = true
		h.begun++
	}
	close(h.changed)
	h.changed = make(chan struct{})
	return h.conns != nil
}

// serve does the steps of the script's layer, and plays the script.
func (h *Hostile) serve(conn net.Conn, secure *tls.Config) {
	p := &Peer{Conn: conn}
	if h.script.Layer >= HTTP1 {
		over := tls.Server(conn, secure)
		if over.Handshake() != nil {
			return
		}
		p.Conn = over
	}
	var err error
	switch h.script.Layer {
	case TLS:
		err = p.readHello()
	case HTTP1:
		err = p.readHead()
	case HTTP2:
		err = p.open(h.script.Settings)
	}
	if err == nil {
		h.script.Play(p)
	}
}

// readHello reads the record that begins a handshake.
func (p *Peer) readHello() error {
	header := make([]byte, 5)
	if _, err := io.ReadFull(p, header); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, p, int64(binary.BigEndian.Uint16(header[3:])))
	return err
}

// readHead reads the head of an HTTP/1.1 request, and perhaps a part of the body.
func (p *Peer) readHead() error {
	var head []byte
	for !bytes.Contains(head, []byte("\r\n\r\n")) {
		some := make([]byte, 4096)
		n, err := p.Read(some)
		if err != nil {
			return err
		}
		head = append(head, some[:n]...)
	}
	return nil
}

// open exchanges settings, and reads up to the head of the first request.
func (p *Peer) open(settings []http2.Setting) error {
	if _, err := io.ReadFull(p, make([]byte, len(http2.ClientPreface))); err != nil {
		return err
	}
	p.Framer = http2.NewFramer(p, p)
	p.Framer.AllowIllegalWrites = true
	if err := p.Framer.WriteSettings(settings...); err != nil {
		return err
	}
	for {
		frame, err := p.Framer.ReadFrame()
		if err != nil {
			return err
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = p.Framer.WriteSettingsAck()
			}
		case *http2.HeadersFrame:
			p.Stream = f.StreamID
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Head begins an HTTP/2 answer that does not end with it. The fields are names and values alternately.
func (p *Peer) Head(status string, fields ...string) {
	p.headers(p.Stream, true, append([]string{":status", status}, fields...)...)
}

func (p *Peer) headers(stream uint32, end bool, fields ...string) {
	_ = p.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block(fields...), EndHeaders: end})
}

// block encodes a block of header fields.
func block(fields ...string) []byte {
	var encoded bytes.Buffer
	encoder := hpack.NewEncoder(&encoded)
	for i := 0; i+1 < len(fields); i += 2 {
		_ = encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}) // a buffer takes all
	}
	return encoded.Bytes()
}

// AnswerPings reads, answers nothing but PING, and ends when the client has gone.
func (p *Peer) AnswerPings() {
	for {
		frame, err := p.Framer.ReadFrame()
		if err != nil && p.Framer.ErrorDetail() == nil {
			return
		}
		if ping, ok := frame.(*http2.PingFrame); ok && !ping.IsAck() {
			if p.Framer.WritePing(true, ping.Data) != nil {
				return
			}
		}
	}
}

// RefuseAll refuses the request and each that follows, so that the client thinks it may send it again.
func (p *Peer) RefuseAll() {
	for stream := p.Stream; ; {
		if p.Framer.WriteRSTStream(stream, http2.ErrCodeRefusedStream) != nil {
			return
		}
		for seen := false; !seen; {
			frame, err := p.Framer.ReadFrame()
			if err != nil && p.Framer.ErrorDetail() == nil {
				return
			}
			if head, ok := frame.(*http2.HeadersFrame); ok {
				stream = head.StreamID
				seen = true
			}
		}
	}
}

// Drain reads until the client has gone.
func (p *Peer) Drain() { _, _ = io.Copy(io.Discard, p.Conn) }

// Repeat repeats a step until it fails, because the client has gone. It reads meanwhile.
func (p *Peer) Repeat(step func() error) {
	var reading sync.WaitGroup
	reading.Go(p.Drain)
	p.Insist(step)
	_ = p.Close()
	reading.Wait()
}

// Insist repeats a step until it fails, and reads nothing.
func (p *Peer) Insist(step func() error) {
	for step() == nil {
	}
}

// pace is the time between the steps of a slow script.
const pace = 20 * time.Millisecond

// slowly waits a moment before each step.
func slowly(step func() error) func() error {
	return func() error {
		<-time.After(pace)
		return step()
	}
}

// say writes text again and again.
func (p *Peer) say(text string) func() error {
	return func() error {
		_, err := io.WriteString(p.Conn, text)
		return err
	}
}

// Inbox returns the URL of a path, which begins with /, on host i.
func (h *Hostile) Inbox(i int, path string) string {
	scheme := "https"
	if h.script.Layer == TCP {
		scheme = "http"
	}
	return scheme + "://" + h.Host(i) + path
}

// Host returns host i as it stands in URLs.
func (h *Hostile) Host(i int) string { return h.listeners[i].Addr().String() }

// CA returns the certificate that all hosts' certificates are signed with, in PEM.
func (h *Hostile) CA() []byte { return h.ca.pem }

// Begun returns the number of all connections.
func (h *Hostile) Begun() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.begun
}

// WaitClosed returns when no connection is open, or with the context's error.
func (h *Hostile) WaitClosed(ctx context.Context) error {
	for {
		h.mu.Lock()
		open, changed := len(h.conns), h.changed
		h.mu.Unlock()
		if open == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close ends all hosts and their connections.
func (h *Hostile) Close() error {
	var errs []error
	for _, l := range h.listeners {
		errs = append(errs, l.Close())
	}
	h.mu.Lock()
	for conn := range h.conns {
		_ = conn.Close()
	}
	h.conns = nil
	h.mu.Unlock()
	h.serving.Wait()
	return errors.Join(errs...)
}
