package demo

import (
	"net"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// names is a name server on loopback that knows the demo's hosts and no other, so that their names can say what they are.
type names struct {
	conn   net.PacketConn
	known  map[string][4]byte // addresses, by name
	served sync.WaitGroup
}

// startNames starts a name server that knows these addresses, by name.
func startNames(known map[string][4]byte) (*names, error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &names{conn: conn, known: known}
	n.served.Go(n.serve)
	return n, nil
}

// address returns where the name server listens.
func (n *names) address() string { return n.conn.LocalAddr().String() }

func (n *names) close() {
	_ = n.conn.Close()
	n.served.Wait()
}

// serve answers questions until the name server is closed.
func (n *names) serve() {
	question := make([]byte, 1500)
	for {
		size, from, err := n.conn.ReadFrom(question)
		if err != nil {
			return
		}
		if answer := n.answer(question[:size]); answer != nil {
			_, _ = n.conn.WriteTo(answer, from) // the resolver asks again
		}
	}
}

// answer returns the answer to a question, or nil if it can't be read.
func (n *names) answer(question []byte) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Response = true
	m.Additionals = nil
	address, known := n.known[strings.ToLower(strings.TrimSuffix(q.Name.String(), "."))]
	switch {
	case !known:
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
		m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: address}}}
	}
	packed, err := m.Pack()
	if err != nil {
		return nil
	}
	return packed
}
