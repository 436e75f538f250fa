package redisq

import (
	"context"
	"encoding/hex"
	"slices"
	"time"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue"
)

// looks is how many activities a call reads at most, about, to find those that a filter does not leave out.
const looks = 2000

// search is what an activity is looked for by.
type search struct {
	queue.ActivityFilter
	uris []string // those of one of these, if there are any

	// Where they are looked for: those of which something is pending, that have a mark of a URI, or that have another mark; else all.
	pending         bool
	uriMarks, marks []string
}

// searchFor returns how activities are found that a filter does not leave out.
func searchFor(f queue.ActivityFilter) *search {
	s := &search{ActivityFilter: f}
	switch {
	case f.URI != "":
		s.uriMarks = []string{mark(uriMark, f.URI)}
	case f.Actor != "" && f.KeyID == f.Actor+usualKey:
		s.marks = []string{mark(usualKeyMark, f.Actor)}
	case f.Actor != "":
		s.marks = []string{mark(actorMark, f.Actor), mark(usualKeyMark, f.Actor)}
	case f.KeyID != "":
		s.marks = marksOfKey(f.KeyID)
	default:
		s.pending = f.State == queue.ActivityPending
	}
	return s
}

// searchForURIs returns how activities of some URIs are found.
func searchForURIs(uris []string) *search {
	s := &search{uris: uris}
	for _, uri := range uris {
		s.uriMarks = append(s.uriMarks, mark(uriMark, uri))
	}
	return s
}

// describes reports whether a description passes the search.
func (f *search) describes(a *queue.Activity) bool {
	return (f.URI == "" || f.URI == a.URI) && (len(f.uris) == 0 || slices.Contains(f.uris, a.URI)) &&
		(f.Actor == "" || f.Actor == a.Actor) && (f.KeyID == "" || f.KeyID == a.KeyID) && (f.Type == "" || f.Type == a.Type)
}

// match is an activity that a search found, wherever it is.
type match struct {
	listPosition
	parts  []part // its home first
	status queue.ActivityStatus
}

// Activities implements queue.Watching. Of activities that the marks of a filter do not tell from others it reads a bounded
// number in a call: then a page is short, and Next goes on.
func (s *reader) Activities(ctx context.Context, f queue.ActivityFilter, p queue.Page) (list queue.List[queue.ActivityStatus], err error) {
	defer wrap(&err, "activities")
	before, err := parsePosition(p.Cursor)
	if err != nil {
		return list, err
	}
	to := searchFor(f)
	for looked := 0; looked < looks; {
		found, err := s.next(ctx, to, before, p.Limit+1)
		if err != nil {
			return list, err
		}
		for page := range slices.Chunk(found.all, p.Limit+1) {
			matches, err := s.matches(ctx, to, page)
			if err != nil {
				return list, err
			}
			for _, m := range matches {
				if len(list.Items) == p.Limit {
					return list, nil // there is one more, so Next holds
				}
				list.Items = append(list.Items, m.status)
				list.Next = m.cursor()
			}
		}
		looked += len(found.all)
		if before = found.end; before == "" {
			list.Next = ""
			return list, nil
		}
	}
	list.Next = before.cursor()
	return list, nil
}

// walk calls next for all activities that a search finds, newest first.
func (s *reader) walk(ctx context.Context, f *search, next func(match) (more bool, err error)) error {
	for before := listPosition(""); ; {
		found, err := s.next(ctx, f, before, chunk)
		if err != nil {
			return err
		}
		for page := range slices.Chunk(found.all, chunk) {
			matches, err := s.matches(ctx, f, page)
			if err != nil {
				return err
			}
			for _, m := range matches {
				if more, err := next(m); err != nil || !more {
					return err
				}
			}
		}
		if before = found.end; before == "" {
			return nil
		}
	}
}

// matches reads the activities at some positions, and returns those that pass a search.
func (s *reader) matches(ctx context.Context, f *search, page []listPosition) ([]match, error) {
	commands := make([]rueidis.Completed, len(page))
	for i, at := range page {
		id := at.id().String()
		commands[i] = s.partitionOf(id).partCommand(id)
	}
	answers, err := s.do(ctx, commands...)
	if err != nil {
		return nil, err
	}
	var all []match
	for i, at := range page {
		id := at.id().String()
		home, found, err := s.partitionOf(id).partOf(id, answers[i])
		if err != nil {
			s.logLimited("description", err)
			continue
		}
		if a := home.asActivity(id); found && home.parts != "" && f.describes(&a) && !home.isBefore(f.Since) {
			all = append(all, match{listPosition: at, parts: []part{home}})
		}
	}
	if err := s.addParts(ctx, all); err != nil {
		return nil, err
	}
	for i := range all {
		all[i].status = statusOf(all[i].id().String(), all[i].parts)
	}
	return slices.DeleteFunc(all, func(m match) bool { return f.State != "" && f.State != m.status.State }), nil
}

// isBefore reports whether an activity was accepted before a time.
func (a *part) isBefore(since time.Time) bool {
	return !since.IsZero() && a.created < a.lag.stored(since)
}

// addParts reads what other partitions than its home have of each activity.
func (s *reader) addParts(ctx context.Context, all []match) error {
	type other struct {
		*partition
		of int
	}
	var others []other
	var commands []rueidis.Completed
	for i, m := range all {
		elsewhere, err := m.parts[0].elsewhere()
		if err != nil {
			return err
		}
		for _, p := range elsewhere {
			others = append(others, other{p, i})
			commands = append(commands, p.partCommand(m.id().String()))
		}
	}
	answers, err := s.do(ctx, commands...)
	if err != nil {
		return err
	}
	for i, o := range others {
		m := &all[o.of]
		a, found, err := o.partOf(m.id().String(), answers[i])
		if err != nil {
			return err
		}
		if found {
			m.parts = append(m.parts, a)
		}
	}
	return nil
}

// cursor is the cursor after an activity.
func (at listPosition) cursor() string { return hex.EncodeToString([]byte(at)) }

func parsePosition(cursor string) (listPosition, error) {
	at, err := hex.DecodeString(cursor)
	if err != nil || cursor != "" && len(at) != positionBytes && len(at) != timeBytes {
		return "", queue.ErrBadCursor
	}
	return listPosition(at), nil
}
