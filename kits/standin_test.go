package kits

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// reply is one answer of the stand-in.
type reply struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
	Drop    bool              `json:"drop"` // read the call, then close the connection without an answer
}

// seen is one call that the stand-in got.
type seen struct {
	Method  string            `json:"method"`
	URI     string            `json:"uri"` // without the name of the script
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
	Remote  string            `json:"remote"` // the address of the connection
}

// script is what the calls of one test get, and what they were.
type script struct {
	replies []reply
	calls   []seen
}

// standin answers as tests in other languages ask it to:
//
//	PUT /scripts/NAME       a list of replies; each call of /NAME/… gets the next
//	GET /scripts/NAME       the list of the calls that came
type standin struct {
	url     string
	mu      sync.Mutex
	scripts map[string]*script // guarded by mu
}

func startStandin(t *testing.T) *standin {
	t.Helper()
	s := &standin{scripts: map[string]*script{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// ServeHTTP implements http.Handler.
func (s *standin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	name, isScript := strings.CutPrefix(r.URL.Path, "/scripts/")
	switch {
	case isScript && r.Method == http.MethodPut:
		s.put(w, name, body)
	case isScript:
		s.show(w, name)
	default:
		s.play(w, r, body)
	}
}

func (s *standin) put(w http.ResponseWriter, name string, body []byte) {
	var replies []reply
	if err := json.Unmarshal(body, &replies); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scripts[name] = &script{replies: replies, calls: []seen{}}
}

func (s *standin) show(w http.ResponseWriter, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if of, found := s.scripts[name]; found {
		_ = json.NewEncoder(w).Encode(of.calls) // an error is the client's, which is gone
		return
	}
	http.Error(w, "there is no such script", http.StatusNotFound)
}

func (s *standin) play(w http.ResponseWriter, r *http.Request, body []byte) {
	next, found := s.next(r, body)
	switch {
	case !found:
		http.Error(w, "nothing more is in the script", http.StatusNotImplemented)
	case next.Drop:
		panic(http.ErrAbortHandler)
	default:
		for name, value := range next.Headers {
			w.Header().Set(name, value)
		}
		w.WriteHeader(next.Status)
		_, _ = io.WriteString(w, next.Body) // an error is the client's, which is gone
	}
}

// next remembers a call and returns its answer.
func (s *standin) next(r *http.Request, body []byte) (reply, bool) {
	name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	headers := map[string]string{}
	for header := range r.Header {
		headers[strings.ToLower(header)] = r.Header.Get(header)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	of, found := s.scripts[name]
	if !found {
		return reply{}, false
	}
	of.calls = append(of.calls, seen{r.Method, strings.TrimPrefix(r.RequestURI, "/"+name), headers, string(body), r.RemoteAddr})
	if len(of.replies) == 0 {
		return reply{}, false
	}
	next := of.replies[0]
	of.replies = of.replies[1:]
	return next, true
}
