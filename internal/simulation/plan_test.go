package simulation

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/postrider/postrider/queue"
)

// planner draws the posts of the app.
type planner struct {
	w  *world
	r  *rand.Rand
	ps []*post
}

// plan draws the posts of the app: notes that are created, changed, deleted and created again, follows that are undone and
// repeated, direct messages, bulk, repeated activities.
func plan(w *world) []*post {
	pl := &planner{w: w, r: dice(w.seed, "app")}
	r := pl.r
	for len(pl.ps) < w.config.posts {
		at, key := between(r, 0, w.end), fmt.Sprintf("note%d", len(pl.ps))
		switch n := r.IntN(24); {
		case n < 6:
			pl.note(at, key)
		case n < 11:
			pl.follow(at, key)
		case n < 15: // a direct message
			pl.add(post{at: at, key: key, to: w.some(r, 1+r.IntN(3))}).priority = queue.High
		case n < 19: // bulk
			pl.add(post{at: at, key: key, to: w.recipients(r, 0.5*r.Float64())}).priority = queue.Low
		case n < 22: // the same activity twice, to more
			to := w.recipients(r, 0.5)
			first := pl.add(post{at: at, key: key, to: to[:len(to)/2]})
			pl.repeat(first, at+between(r, time.Second, time.Hour)).to = to
		default: // many for few
			to := w.some(r, 1+r.IntN(2))
			for range 1 + r.IntN(12) {
				pl.add(post{at: at, key: fmt.Sprintf("note%d", len(pl.ps)), to: to})
				at += between(r, time.Millisecond, time.Second)
			}
		}
	}
	return pl.ps
}

// add plans a post of normal priority. Fields that are not set are drawn, or unique.
func (pl *planner) add(p post) *post {
	p.name = fmt.Sprintf("p%d", len(pl.ps))
	if p.body == "" {
		p.body = p.name
	}
	if p.uri == "" {
		p.uri = "https://app.example/" + p.name
	}
	p.priority = queue.Normal
	p.ttl = pick(pl.r, ttl, ttl, 24*time.Hour)
	p.keyless = p.keyless || pl.r.IntN(2) == 0
	pl.ps = append(pl.ps, &p)
	return &p
}

// repeat plans the same activity again, as another post.
func (pl *planner) repeat(p *post, at time.Duration) *post {
	q := *p
	q.at = at
	q.again = 0
	q.keyless = true
	return pl.add(q)
}

// pause draws how long the app waits before its next post about the same object.
func (pl *planner) pause() time.Duration {
	r := pl.r
	return pick(r, between(r, time.Millisecond, time.Minute), between(r, time.Minute, 12*time.Hour))
}

// note plans a note and the later posts about it.
func (pl *planner) note(at time.Duration, key string) {
	r := pl.r
	to := pl.w.recipients(r, 0.2+0.8*r.Float64())
	made := pl.add(post{at: at, key: key, object: key, role: queue.Makes, to: to})
	switch r.IntN(6) {
	case 0, 1:
		made.keyless, made.again = false, at+between(r, time.Second, 20*time.Hour)
	case 2:
		at += pl.pause()
		pl.repeat(made, at)
	}
	for range r.IntN(3) {
		at += pl.pause()
		changed := pl.add(post{at: at, key: key, object: key, to: to})
		if r.IntN(3) == 0 { // with its Create's id, and bytes of its own
			changed.uri = made.uri
		}
	}
	if r.IntN(3) > 0 {
		pl.deletion(at+pl.pause(), made)
	}
}

// deletion plans the Delete of a note and the later posts about it.
func (pl *planner) deletion(at time.Duration, made *post) {
	r := pl.r
	to := made.to
	if r.IntN(4) == 0 && len(to) > 1 {
		to = to[len(to)/3:]
	}
	deleted := pl.add(post{at: at, key: made.key, object: made.key, role: queue.Deletes, to: to})
	if r.IntN(4) == 0 {
		deleted.uri = made.uri
	}
	switch at += pl.pause(); r.IntN(4) {
	case 0:
		pl.repeat(made, at) // made again, though it is deleted
	case 1, 2:
		undone := post{at: at, key: made.key, object: made.key, role: queue.Restores, to: to}
		if r.IntN(2) == 0 { // it only names the Delete
			undone.key = deleted.uri
			undone.refers = deleted.uri
			undone.object = ""
		}
		pl.add(undone)
		if at += pl.pause(); r.IntN(2) == 0 {
			pl.repeat(deleted, at)
		}
	}
}

// follow plans a follow that is undone and made again, each time with the same ids and bytes.
func (pl *planner) follow(at time.Duration, key string) {
	r := pl.r
	first := pl.add(post{at: at, key: key, to: pl.w.some(r, 1+r.IntN(2)), keyless: true})
	undo := post{key: key, to: first.to, keyless: true, body: "undo " + first.name, uri: first.uri + "#undo"}
	if r.IntN(2) == 0 { // it only names the follow
		undo.key, undo.refers = first.uri, first.uri
	}
	for range 1 + r.IntN(2) {
		if at += pl.pause(); r.IntN(3) == 0 {
			pl.repeat(first, at)
			at += pl.pause()
		}
		undo.at = at
		pl.add(undo)
		at += pl.pause()
		pl.repeat(first, at)
	}
}

// recipients draws a share of the hosts, with one inbox or more.
func (w *world) recipients(r *rand.Rand, share float64) (to []queue.Recipient) {
	for _, h := range w.list {
		if r.Float64() > share {
			continue
		}
		for _, path := range h.some(r) {
			to = append(to, h.recipient(path))
		}
	}
	return to
}

// some draws an inbox each of a few hosts.
func (w *world) some(r *rand.Rand, n int) (to []queue.Recipient) {
	for _, i := range r.Perm(len(w.list))[:n] {
		h := w.list[i]
		to = append(to, h.recipient(pick(r, h.inboxes...)))
	}
	return to
}

// recipient returns the recipient at one of a host's inboxes. Of most inboxes the app names the actors behind them.
func (h *host) recipient(path string) queue.Recipient {
	to := queue.Recipient{Inbox: "https://" + h.name + path, Host: h.name}
	for i := range mix(0, to.Inbox) % 3 {
		to.IDs = append(to.IDs, fmt.Sprintf("https://%s/users/%d", h.name, i))
	}
	return to
}
