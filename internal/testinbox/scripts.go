package testinbox

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"

	"golang.org/x/net/http2"
)

const (
	accepted = "HTTP/1.1 202 Accepted\r\n"
	kilobyte = 1 << 10
	large    = 16 * kilobyte // the largest frame that clients accept by default
)

// noWindow is the setting that keeps a client from sending any part of a body.
var noWindow = []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}

// WindowZero lets the client send no part of a body, answers with an endless head, and keeps the connection alive.
func WindowZero() Script {
	return Script{Name: "no window, head without end, PINGs answered", Layer: HTTP2, Settings: noWindow, Answers: 200,
		Play: func(p *Peer) { p.Head("200"); p.AnswerPings() }}
}

// Scripts returns scripts of hosts that misbehave. Each runs until the client closes the connection.
func Scripts() []Script {
	all := append(stallingHTTP2(), floodingHTTP2()...)
	all = append(all, confusingHTTP2()...)
	all = append(all, scriptsHTTP1()...)
	all = append(all, scriptsTLS()...)
	return append(all, scriptsTCP()...)
}

// PaddedChain accepts each activity, after a handshake with n bytes of certificates that nobody needs, and keeps the
// connection.
func PaddedChain(n int) Script {
	return Script{Name: "padded chain of certificates", Layer: HTTP1, Chain: n, Answers: 202, Play: func(p *Peer) {
		_, _ = io.WriteString(p.Conn, accepted+"Content-Length: 0\r\n\r\n")
		p.Drain()
	}}
}

func stallingHTTP2() []Script {
	h2 := func(name string, answers int, settings []http2.Setting, play func(*Peer)) Script {
		return Script{Name: name, Layer: HTTP2, Settings: settings, Answers: answers, Play: play}
	}
	return []Script{
		WindowZero(),
		h2("no window, no head, PINGs answered", 0, noWindow, (*Peer).AnswerPings),
		h2("no window, DATA trickles", 200, noWindow, func(p *Peer) {
			p.Head("200")
			p.Repeat(slowly(func() error { return p.Framer.WriteData(p.Stream, false, []byte("x")) }))
		}),
		h2("no WINDOW_UPDATE, head without end, PINGs answered", 200, nil, func(p *Peer) { p.Head("200"); p.AnswerPings() }),
		h2("no WINDOW_UPDATE, no head", 0, nil, (*Peer).AnswerPings),
		h2("window of one byte, again and again", 200, noWindow, func(p *Peer) {
			p.Head("200")
			p.Repeat(slowly(func() error { return p.Framer.WriteWindowUpdate(p.Stream, 1) }))
		}),
		h2("DATA trickles", 200, nil, func(p *Peer) {
			p.Head("200")
			p.Repeat(slowly(func() error { return p.Framer.WriteData(p.Stream, false, []byte("x")) }))
		}),
		h2("an error's DATA trickles", 500, nil, func(p *Peer) {
			p.Head("500")
			p.Repeat(slowly(func() error { return p.Framer.WriteData(p.Stream, false, []byte("x")) }))
		}),
		h2("head trickles", 0, nil, func(p *Peer) {
			p.headers(p.Stream, false, ":status", "200")
			p.Repeat(slowly(func() error { return p.Framer.WriteContinuation(p.Stream, false, block("x-a", "b")) }))
		}),
		h2("each stream refused", 0, nil, (*Peer).RefuseAll),
		h2("no streams", 0, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 0}}, (*Peer).AnswerPings),
		h2("reads nothing any more", 200, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1 << 30}}, func(p *Peer) {
			p.Head("200")
			_ = p.Framer.WriteWindowUpdate(0, 1<<30)
			p.Insist(slowly(func() error { return p.Framer.WriteWindowUpdate(0, 1) }))
		}),
	}
}

func floodingHTTP2() []Script {
	flood := func(name string, answers int, step func(*Peer) error) Script {
		return Script{Name: name + " without end", Layer: HTTP2, Settings: noWindow, Answers: answers,
			Play: func(p *Peer) { p.Repeat(func() error { return step(p) }) }}
	}
	return []Script{
		flood("PING", 0, func(p *Peer) error { return p.Framer.WritePing(false, [8]byte{}) }),
		flood("unasked answers to PING", 0, func(p *Peer) error { return p.Framer.WritePing(true, [8]byte{}) }),
		flood("SETTINGS", 0, func(p *Peer) error { return p.Framer.WriteSettings() }),
		flood("WINDOW_UPDATE", 0, func(p *Peer) error { return p.Framer.WriteWindowUpdate(0, 1) }),
		flood("PRIORITY", 0, func(p *Peer) error { return p.Framer.WritePriority(p.Stream, http2.PriorityParam{Weight: 1}) }),
		flood("unknown frames", 0, func(p *Peer) error { return p.Framer.WriteRawFrame(0xbe, 0, p.Stream, []byte("?")) }),
		flood("large unknown frames", 0, func(p *Peer) error { return p.Framer.WriteRawFrame(0xbe, 0, 0, make([]byte, large)) }),
		flood("GOAWAY that ends nothing", 0, func(p *Peer) error {
			return p.Framer.WriteGoAway(p.Stream, http2.ErrCodeNo, bytes.Repeat([]byte("\x1b"), kilobyte))
		}),
		flood("PUSH_PROMISE", 0, func(p *Peer) error {
			return p.Framer.WritePushPromise(http2.PushPromiseParam{StreamID: p.Stream, PromiseID: 2, EndHeaders: true})
		}),
		flood("heads of 103", 0, func(p *Peer) error { p.Head("103"); return p.Framer.WritePing(true, [8]byte{}) }),
		flood("RST_STREAM of streams that are no more", 0, func(p *Peer) error { return p.Framer.WriteRSTStream(p.Stream, http2.ErrCodeNo) }),
		{Name: "CONTINUATION without end", Layer: HTTP2, Play: func(p *Peer) {
			p.headers(p.Stream, false, ":status", "200")
			p.Repeat(func() error { return p.Framer.WriteContinuation(p.Stream, false, block("x-a", "b")) })
		}},
		{Name: "empty CONTINUATION without end", Layer: HTTP2, Play: func(p *Peer) {
			p.headers(p.Stream, false, ":status", "200")
			p.Repeat(func() error { return p.Framer.WriteContinuation(p.Stream, false, nil) })
		}},
		{Name: "DATA without end", Layer: HTTP2, Answers: 200, Play: func(p *Peer) {
			p.Head("200")
			p.Repeat(func() error { return p.Framer.WriteData(p.Stream, false, make([]byte, large)) })
		}},
		{Name: "empty DATA without end", Layer: HTTP2, Answers: 200, Play: func(p *Peer) {
			p.Head("200")
			p.Repeat(func() error { return p.Framer.WriteData(p.Stream, false, nil) })
		}},
		{Name: "padding without end", Layer: HTTP2, Answers: 200, Play: func(p *Peer) {
			p.Head("200")
			p.Repeat(func() error { return p.Framer.WriteDataPadded(p.Stream, false, nil, make([]byte, 255)) })
		}},
		{Name: "PINGs whose answers are not read", Layer: HTTP2, Answers: -1, Play: func(p *Peer) {
			p.Head("200")
			p.Insist(func() error { return p.Framer.WritePing(false, [8]byte{}) })
		}},
	}
}

func confusingHTTP2() []Script {
	h2 := func(name string, answers int, play func(*Peer)) Script {
		return Script{Name: name, Layer: HTTP2, Answers: answers, Play: play}
	}
	return []Script{
		h2("DATA before a head", 0, func(p *Peer) { _ = p.Framer.WriteData(p.Stream, false, []byte("x")); p.AnswerPings() }),
		h2("DATA of a stream that nobody opened", 0, func(p *Peer) { _ = p.Framer.WriteData(99, false, []byte("x")); p.AnswerPings() }),
		h2("head of a stream that nobody opened", 0, func(p *Peer) { p.headers(98, true, ":status", "200"); p.AnswerPings() }),
		h2("no status", 0, func(p *Peer) { p.headers(p.Stream, true, "server", "x"); p.AnswerPings() }),
		h2("status 99", 0, func(p *Peer) { p.Head("99"); p.AnswerPings() }),
		h2("status 101", 0, func(p *Peer) { p.Head("101"); p.AnswerPings() }),
		h2("header fields that grow in the client", 0, func(p *Peer) {
			// One field of nearly 4 KiB goes into the table, and is called for by one byte each time.
			fields := append(block(":status", "200", "x-a", strings.Repeat("b", 3900)), bytes.Repeat([]byte{0xbe}, 12*kilobyte)...)
			_ = p.Framer.WriteHeaders(http2.HeadersFrameParam{StreamID: p.Stream, BlockFragment: fields, EndHeaders: true})
			p.AnswerPings()
		}),
		h2("frame longer than allowed", 0, func(p *Peer) {
			_, _ = p.Write(binary.BigEndian.AppendUint32([]byte{0xff, 0xff, 0xff, 0, 0}, p.Stream))
			p.Repeat(p.say(strings.Repeat("x", kilobyte)))
		}),
		h2("WINDOW_UPDATE beyond all bounds", 0, func(p *Peer) {
			_ = p.Framer.WriteWindowUpdate(p.Stream, 1<<31-1)
			p.AnswerPings()
		}),
		h2("answer, then DATA after the end", 202, func(p *Peer) {
			_ = p.Framer.WriteHeaders(http2.HeadersFrameParam{
				StreamID: p.Stream, BlockFragment: block(":status", "202"), EndHeaders: true, EndStream: true,
			})
			p.Repeat(func() error { return p.Framer.WriteData(p.Stream, false, []byte("x")) })
		}),
		h2("answer, then HTTP/1.1", 202, func(p *Peer) {
			_ = p.Framer.WriteHeaders(http2.HeadersFrameParam{
				StreamID: p.Stream, BlockFragment: block(":status", "202"), EndHeaders: true, EndStream: true,
			})
			p.Repeat(p.say(accepted + "\r\n"))
		}),
		{Name: "chain of certificates of 80 KiB", Layer: HTTP2, Chain: 80 * kilobyte, Play: (*Peer).AnswerPings},
		{Name: "chain of certificates of 200 KiB", Layer: HTTP2, Chain: 200 * kilobyte, Play: (*Peer).AnswerPings},
	}
}

func scriptsHTTP1() []Script {
	h1 := func(name string, answers int, start string, step func(*Peer) func() error) Script {
		return Script{Name: name, Layer: HTTP1, Answers: answers, Play: func(p *Peer) {
			_, _ = io.WriteString(p.Conn, start)
			p.Repeat(step(p))
		}}
	}
	trickle := func(text string) func(*Peer) func() error {
		return func(p *Peer) func() error { return slowly(p.say(text)) }
	}
	flood := func(text string) func(*Peer) func() error {
		return func(p *Peer) func() error { return p.say(text) }
	}
	return []Script{
		{Name: "silence", Layer: HTTP1, Play: (*Peer).Drain},
		{Name: "silence after a head", Layer: HTTP1, Answers: 202, Play: func(p *Peer) {
			_, _ = io.WriteString(p.Conn, accepted+"Content-Length: 10\r\n\r\n")
			p.Drain()
		}},
		h1("head trickles", 0, accepted+"X: ", trickle("x")),
		h1("heads of 103 trickle", 0, "", trickle("HTTP/1.1 103 Early Hints\r\n\r\n")),
		h1("heads of 103 without end", 0, "", flood("HTTP/1.1 103 Early Hints\r\n\r\n")),
		h1("head without end", 0, accepted, flood("X: "+strings.Repeat("x", kilobyte)+"\r\n")),
		h1("body trickles", 202, accepted+"Content-Length: 1000000\r\n\r\n", trickle("x")),
		h1("body without end", 202, accepted+"\r\n", flood(strings.Repeat("x", large))),
		h1("chunks trickle", 202, accepted+"Transfer-Encoding: chunked\r\n\r\n", trickle("1\r\nx\r\n")),
		h1("chunks without end", 202, accepted+"Transfer-Encoding: chunked\r\n\r\n", flood("1\r\nx\r\n")),
		h1("chunk extension without end", 202, accepted+"Transfer-Encoding: chunked\r\n\r\n1;", flood(strings.Repeat("x", kilobyte))),
		h1("trailer without end", 202, accepted+"Transfer-Encoding: chunked\r\n\r\n0\r\n", flood("X: x\r\n")),
		h1("answers that nobody asked for", 202, "", flood(accepted+"Content-Length: 0\r\n\r\n")),
		{Name: "body without end, reads nothing any more", Layer: HTTP1, Answers: 202, Play: func(p *Peer) {
			_, _ = io.WriteString(p.Conn, accepted+"\r\n")
			p.Insist(p.say(strings.Repeat("x", large)))
		}},
	}
}

// scriptsTLS are handshakes. They send the beginning of a record: its type, the version, and its length.
func scriptsTLS() []Script {
	flood := func(name, record string) Script {
		return Script{Name: name + " without end", Layer: TLS, Play: func(p *Peer) { p.Repeat(p.say(record)) }}
	}
	return []Script{
		{Name: "silence in the handshake", Layer: TLS, Play: (*Peer).Drain},
		{Name: "handshake trickles", Layer: TLS, Play: func(p *Peer) {
			_, _ = io.WriteString(p.Conn, "\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb")
			p.Repeat(slowly(p.say("x")))
		}},
		{Name: "message of 16 MiB in the handshake", Layer: TLS, Play: func(p *Peer) {
			_, _ = io.WriteString(p.Conn, "\x16\x03\x03\x00\x04\x02\xff\xff\xff")
			p.Repeat(p.say("\x16\x03\x03\x40\x00" + strings.Repeat("x", large)))
		}},
		flood("empty records", "\x16\x03\x03\x00\x00"),
		flood("warnings", "\x15\x03\x03\x00\x02\x01\x5a"),
		flood("changes of cipher", "\x14\x03\x03\x00\x01\x01"),
		flood("another protocol in the handshake", "SSH-2.0-OpenSSH_9.9\r\n"),
	}
}

func scriptsTCP() []Script {
	return []Script{
		{Name: "reads nothing", Layer: TCP, Answers: -1, Play: func(p *Peer) { p.Insist(slowly(p.say(accepted[:1]))) }},
		{Name: "another protocol without end", Layer: TCP, Play: func(p *Peer) { p.Repeat(p.say("220 mail.example ESMTP\r\n")) }},
		{Name: "line without end", Layer: TCP, Play: func(p *Peer) { p.Repeat(p.say(strings.Repeat("x", kilobyte))) }},
		{Name: "silence in clear", Layer: TCP, Play: (*Peer).Drain},
	}
}
