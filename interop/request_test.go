package interop

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// request is a request as it came over the wire.
type request struct {
	protocol string   // of the URL it was sent to: http or https
	lines    []string // request line and headers, without line ends
	body     string
	answered int // by a door
}

// bytes is the request as it was on the wire.
func (r *request) bytes() string {
	return strings.Join(r.lines, "\r\n") + "\r\n\r\n" + r.body
}

// header returns the value of the first header of that name, or "".
func (r *request) header(name string) string {
	if i := r.find(name); i > 0 {
		_, value, _ := strings.Cut(r.lines[i], ":")
		return strings.TrimSpace(value)
	}
	return ""
}

// find returns the line of a header, or 0.
func (r *request) find(name string) int {
	return max(0, slices.IndexFunc(r.lines, func(line string) bool {
		found, _, _ := strings.Cut(line, ":")
		return strings.EqualFold(found, name)
	}))
}

// target is path and query as the request line has them.
func (r *request) target() string { return strings.Fields(r.lines[0])[1] }

// The names of the schemes in the tables here and in FEDERATION.md.
const (
	cavage  = "cavage"
	rfc9421 = "rfc9421"
)

func (r *request) scheme() string {
	if r.find("Signature-Input") > 0 {
		return rfc9421
	}
	return cavage
}

var keyIDParameter = regexp.MustCompile(`(?i)\bkeyid="([^"]*)"`)

func (r *request) keyID() string {
	m := keyIDParameter.FindStringSubmatch(r.header("Signature-Input") + r.header("Signature"))
	if m == nil {
		return ""
	}
	return m[1]
}

// checkDigest is for verifiers that check the signature alone.
func (r *request) checkDigest() error {
	sum := sha256.Sum256([]byte(r.body))
	name, want := "Digest", "SHA-256="+base64.StdEncoding.EncodeToString(sum[:])
	if r.scheme() == rfc9421 {
		name, want = "Content-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":"
	}
	if got := r.header(name); got != want {
		return fmt.Errorf("%s is %q, the body's is %q", name, got, want)
	}
	return nil
}

// String identifies a request in errors.
func (r *request) String() string {
	return fmt.Sprintf("%s://%s%s by %s with %s", r.protocol, r.header("Host"), r.target(), r.scheme(), r.keyID())
}

// door is an inbox that keeps requests as they came.
type door struct {
	listener net.Listener
	answer   func(*request) int // the status
	protocol string             // of the URLs that lead here: https behind a proxy, else http
	serving  sync.WaitGroup

	mu  sync.Mutex
	got []*request // guarded by mu
}

// openDoor opens an inbox on an address.
func openDoor(t *testing.T, address string, answer func(*request) int) *door {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{listener: listener, answer: answer, protocol: "http"}
	d.serving.Go(d.serve)
	t.Cleanup(func() {
		_ = listener.Close()
		d.serving.Wait()
	})
	return d
}

func (d *door) host() string { return d.listener.Addr().String() }

func (d *door) serve() {
	for {
		conn, err := d.listener.Accept()
		if err != nil {
			return
		}
		d.serving.Go(func() {
			defer conn.Close()
			if r, err := receive(conn); err == nil {
				d.take(r)
				_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d Status\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", r.answered)
			}
		})
	}
}

func (d *door) take(r *request) {
	r.protocol = d.protocol
	r.answered = d.answer(r)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.got = append(d.got, r)
}

// requests returns all that came so far, accepted those that were answered 202.
func (d *door) requests() []*request {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.got)
}

func (d *door) accepted() []*request {
	return slices.DeleteFunc(d.requests(), func(r *request) bool { return r.answered != http.StatusAccepted })
}

// receive reads a request without a parser, byte for byte.
func receive(conn io.Reader) (*request, error) {
	in, r := bufio.NewReader(conn), &request{}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if line == "\r\n" {
			break
		}
		r.lines = append(r.lines, strings.TrimSuffix(line, "\r\n"))
	}
	length, err := strconv.Atoi(r.header("Content-Length"))
	if err != nil {
		return nil, err
	}
	body := make([]byte, length)
	_, err = io.ReadFull(in, body)
	r.body = string(body)
	return r, err
}

// accepts is the answer of a door that accepts everything.
func accepts(*request) int { return http.StatusAccepted }

// knowsRFC9421 is the answer of a door that understands no other scheme.
func knowsRFC9421(r *request) int {
	if r.scheme() == rfc9421 {
		return http.StatusAccepted
	}
	return http.StatusUnauthorized
}
