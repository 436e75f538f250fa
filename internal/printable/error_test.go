package printable

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"
)

func TestError(t *testing.T) {
	near := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 41234}
	far := &net.TCPAddr{IP: net.IPv4(203, 0, 113, 7), Port: 443}
	reset := &net.OpError{Op: "read", Net: "tcp", Source: near, Addr: far, Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	const lost = "read tcp 203.0.113.7:443: read: connection reset by peer"
	six := &net.OpError{
		Op: "write", Net: "tcp6", Source: &net.TCPAddr{IP: net.ParseIP("fd00::1"), Port: 41234, Zone: "eth0"},
		Addr: &net.TCPAddr{IP: net.ParseIP("2001:db8::7"), Port: 443}, Err: syscall.EPIPE,
	}
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"none", nil, ""},
		{"plain", errors.New("unexpected\r\n\x1bEOF"), "unexpected EOF"},
		{"connection", reset, lost},
		{"wrapped", fmt.Errorf("TLS handshake with a.example:443: %w", reset), "TLS handshake with a.example:443: " + lost},
		{"as text", fmt.Errorf("no other address answers (%v)", reset), "no other address answers (" + lost + ")"},
		{"two", errors.Join(reset, reset), lost + " " + lost},
		{"IPv6", six, "write tcp6 [2001:db8::7]:443: broken pipe"},
		{"no connection", &net.OpError{Op: "dial", Net: "tcp", Addr: far, Err: syscall.ECONNREFUSED},
			"dial tcp 203.0.113.7:443: connection refused"},
		{"unknown name", &net.DNSError{Err: "no such host", Name: "a.example", Server: "10.0.0.2:53", IsNotFound: true},
			"lookup a.example: no such host"},
		{"mute name server", fmt.Errorf("dial tcp: %w", &net.DNSError{
			Err: "read udp 10.0.0.1:33333->10.0.0.2:53: i/o timeout", Name: "a.example", Server: "10.0.0.2:53", IsTimeout: true,
		}), "dial tcp: lookup a.example: read udp name server: i/o timeout"},
		{"no name server", &net.DNSError{Err: "dial tcp [fd00::2]:53: connection refused", Name: "a.example", Server: "[fd00::2]:53"},
			"lookup a.example: dial tcp name server: connection refused"},
		{"arrows that mean nothing", errors.New("a->b 10.0.0.1->c ->"), "a->b 10.0.0.1->c ->"},
		{"look-up that is none", errors.New("lookup on the moon: nobody"), "lookup on the moon: nobody"},
	} {
		if got := Error(tt.err, 200); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := Error(errors.New(strings.Repeat("ż", 60_000)), 200); utf8.RuneCountInString(got) != 200 {
		t.Errorf("%d characters are left of a long error", utf8.RuneCountInString(got))
	}
}

// FuzzError checks that no error keeps the local end of a connection, however it is wrapped.
func FuzzError(f *testing.F) {
	f.Add("http2: ", " (lookup x on ")
	f.Add("->", "lookup  on 10.0.0.1:41234")
	f.Fuzz(func(t *testing.T, before, after string) {
		near := &net.TCPAddr{IP: net.IPv4(198, 51, 100, 23), Port: 41234}
		far := &net.TCPAddr{IP: net.IPv4(203, 0, 113, 7), Port: 443}
		err := &net.OpError{Op: "read", Net: "tcp", Source: near, Addr: far, Err: syscall.ECONNRESET}
		got := Error(fmt.Errorf("%s%w%s", before, err, after), 1000)
		if strings.Contains(got, near.String()+"->") || !utf8.ValidString(got) {
			t.Fatalf("%q", got)
		}
	})
}
