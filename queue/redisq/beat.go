package redisq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/postrider/postrider/queue"
)

// Nodes tell each other every second that they are there. A beat is the word node and, as JSON, what the node says of itself:
//
//	node {"name":"web-1-3f9a2c","version":"1.2.3","started":1767366245000,"looks":true,"room":true,"in_flight":3,…}
//
// Members that a node does not know are ignored, so that later versions may say more.

// beat is what was heard of a node last.
type beat struct {
	at time.Time
	note
}

// note is what a node says of itself.
type note struct {
	Name        string `json:"name"`
	Version     string `json:"version,omitempty"`
	Started     int64  `json:"started,omitempty"` // ms since 1970, by its clock
	Looks       bool   `json:"looks,omitempty"`   // for work: only then it serves partitions
	Room        bool   `json:"room,omitempty"`    // for more work
	InFlight    int    `json:"in_flight,omitempty"`
	Concurrency int    `json:"concurrency,omitempty"`
	Partitions  int    `json:"partitions,omitempty"` // that it serves
}

const (
	maxBeat  = 1024      // bytes of what a node says of itself
	maxCount = 1_000_000 // of any number in it
)

// lastTime is the last moment that can be shown: the end of the year 9999.
var lastTime = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).UnixMilli()

// The errors of a beat that is ignored.
var (
	errBeatForm   = errors.New("a beat of a node is not in a form that is known")
	errBeatValues = errors.New("a beat of a node has impossible values")
)

// parseBeat reads what a node says of itself, which may be anything.
func parseBeat(text string, now time.Time) (beat, error) {
	if len(text) > maxBeat {
		return beat{}, fmt.Errorf("%w: it has %d bytes", errBeatForm, len(text))
	}
	b := beat{at: now}
	if err := json.Unmarshal([]byte(text), &b.note); err != nil {
		return beat{}, fmt.Errorf("%w: %w", errBeatForm, err)
	}
	if !b.valid() {
		return beat{}, errBeatValues
	}
	return b, nil
}

// valid reports whether a note is one that a node can have sent.
func (n *note) valid() bool {
	for _, count := range []int{n.InFlight, n.Concurrency, n.Partitions} {
		if count < 0 || count > maxCount {
			return false
		}
	}
	return queue.ValidNodeName(n.Name) && n.Version == cleanVersion(n.Version) && n.Started >= 0 && n.Started <= lastTime
}

// cleanVersion makes the version of a program one that may be in a beat.
func cleanVersion(version string) string {
	version = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, version)
	return version[:min(len(version), queue.MaxVersion)]
}

// node shows what was heard of a node.
func (b *beat) node() queue.Node {
	return queue.Node{
		Name: b.Name, Delivers: b.Looks, HasRoom: b.Looks && b.Room, Partitions: b.Partitions, HeardAt: b.at,
		NodeInfo: queue.NodeInfo{Version: b.Version, StartedAt: timeOf(b.Started), InFlight: b.InFlight, Concurrency: b.Concurrency},
	}
}

// introduce returns what this node says of itself.
func (s *channels) introduce() note {
	n := note{Name: s.company.self, Looks: s.looks.Load()}
	if info := s.info.Load(); info != nil {
		said := (*info)()
		n.Version = cleanVersion(said.Version)
		n.Started = max(0, said.StartedAt.UnixMilli())
		n.InFlight = min(max(0, said.InFlight), maxCount)
		n.Concurrency = min(max(0, said.Concurrency), maxCount)
	}
	if n.Looks {
		n.Room = s.hasRoom()
		for _, serves := range s.company.served() {
			if serves {
				n.Partitions++
			}
		}
	}
	return n
}

// beat tells the other nodes again and again that this one is there, from when it joined or looked for work until ctx ends.
func (s *channels) beat(ctx context.Context) {
	select {
	case <-s.begun:
	case <-ctx.Done():
		return
	}
	s.company.beats(time.Now())
	again := time.Tick(beatEvery)
	for ctx.Err() == nil {
		s.reshare()
		s.broadcast(ctx, nodeMessage+" "+toJSON(s.introduce()))
		select {
		case <-ctx.Done():
		case <-s.begun:
		case <-again:
		}
	}
}

// begin has this node beat now: it begins to, or what it says of itself has changed.
func (s *channels) begin() {
	s.beating.Store(true)
	select {
	case s.begun <- struct{}{}:
	default:
	}
}

// heardBeat takes in a beat.
func (s *channels) heardBeat(text string) {
	b, err := parseBeat(text, time.Now())
	if err == nil {
		err = s.company.heard(b)
	}
	if err == nil {
		return
	}
	if before, open := s.logSampler.Allow("beat"); open {
		s.log.Warn("store.beat_ignored", "error", err, "lines_suppressed", before)
	}
}

// sayGone tells the others that this node is gone.
func (s *channels) sayGone() {
	if !s.beating.Load() {
		return // they have not heard of it
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), readyTimeout, errSlow)
	defer cancel()
	s.broadcast(ctx, goneMessage+" "+s.company.self)
}
