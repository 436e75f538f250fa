// Package testdns is a name server for tests: it listens on loopback, over UDP, and answers as a script says.
//
// What callers may rely on: the script is called for each query, by one goroutine at a time, and may be changed while the
// server runs.
//
// What callers may not rely on: that it speaks TCP, or knows records other than A, AAAA and NS.
package testdns

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Query is a client's question.
type Query struct {
	Name string // in lower case, without the final dot; "" is the root
	Type dnsmessage.Type
}

// Reply is the server's answer. The zero value means that the name exists and has no record of the type.
type Reply struct {
	Addrs  []string // IPv4 addresses answer A queries, IPv6 addresses AAAA queries
	Code   dnsmessage.RCode
	Silent bool   // do not answer
	NS     string // a name server; answers NS queries
	Delay  time.Duration
}

// The replies without addresses.
var (
	Silent   = Reply{Silent: true}
	NoName   = Reply{Code: dnsmessage.RCodeNameError}
	Fail     = Reply{Code: dnsmessage.RCodeServerFailure}
	Refused  = Reply{Code: dnsmessage.RCodeRefused}
	RootZone = Reply{NS: "a.root-servers.example."}
)

// Script returns the answer to a query.
type Script func(Query) Reply

// Always returns a script that answers all queries with r.
func Always(r Reply) Script { return func(Query) Reply { return r } }

// Names returns a script that knows some names, and answers all other queries with r.
func Names(known map[string]Reply, r Reply) Script {
	return func(q Query) Reply {
		if k, ok := known[q.Name]; ok {
			return k
		}
		return r
	}
}

// Server is a name server.
type Server struct {
	Addr string // host:port

	t    testing.TB
	conn net.PacketConn

	mu     sync.Mutex
	script Script        // guarded by mu
	asked  map[Query]int // guarded by mu
}

// Start starts a server that ends with the test.
func Start(t testing.TB, script Script) *Server {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: conn.LocalAddr().String(), t: t, conn: conn, script: script, asked: map[Query]int{}}
	var served sync.WaitGroup
	served.Go(s.serve)
	t.Cleanup(func() { s.Stop(); served.Wait() })
	return s
}

// Stop ends the server before the end of its test. Queries are refused then.
func (s *Server) Stop() { _ = s.conn.Close() }

// Do makes the server follow another script.
func (s *Server) Do(script Script) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = script
}

// Asked returns the number of queries for a name, of all types.
func (s *Server) Asked(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for q, times := range s.asked {
		if q.Name == name {
			n += times
		}
	}
	return n
}

func (s *Server) serve() {
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(buf[:n]); err != nil || len(m.Questions) != 1 {
			s.t.Errorf("a broken query: %v", err)
			continue
		}
		reply := s.reply(m.Questions[0])
		if reply.Silent {
			continue
		}
		packed, err := reply.message(m).Pack()
		if err != nil {
			s.t.Errorf("an answer that can't be packed: %v", err)
			continue
		}
		time.AfterFunc(reply.Delay, func() { _, _ = s.conn.WriteTo(packed, from) }) // an error means that one of us has gone
	}
}

func (s *Server) reply(q dnsmessage.Question) Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	query := Query{strings.ToLower(strings.TrimSuffix(q.Name.String(), ".")), q.Type}
	s.asked[query]++
	return s.script(query)
}

// message makes the answer to a query.
func (r Reply) message(m dnsmessage.Message) *dnsmessage.Message {
	q := m.Questions[0]
	m.Response = true
	m.RecursionAvailable = true
	m.RCode = r.Code
	m.Additionals = nil
	for _, text := range r.Addrs {
		if body := record(netip.MustParseAddr(text), q.Type); body != nil {
			m.Answers = append(m.Answers, resource(q, body))
		}
	}
	if r.NS != "" && q.Type == dnsmessage.TypeNS {
		m.Answers = append(m.Answers, resource(q, &dnsmessage.NSResource{NS: dnsmessage.MustNewName(r.NS)}))
	}
	return &m
}

// record returns the record of an address, or nil if its type is another one.
func record(addr netip.Addr, t dnsmessage.Type) dnsmessage.ResourceBody {
	switch {
	case addr.Is4() && t == dnsmessage.TypeA:
		return &dnsmessage.AResource{A: addr.As4()}
	case addr.Is6() && t == dnsmessage.TypeAAAA:
		return &dnsmessage.AAAAResource{AAAA: addr.As16()}
	}
	return nil
}

func resource(q dnsmessage.Question, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}, Body: body}
}
