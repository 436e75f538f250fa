package simulation

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/postrider/postrider/queue"
)

// changed records and checks which dead letters are pending again or deleted after a call.
func (c *checker) changed(
	before []queue.DeadLetter, which queue.DeadLetterChoice, retried bool, lasts time.Duration, n queue.DeadLetterCount,
) {
	c.mu.Lock()
	defer c.mu.Unlock()
	left := map[string]bool{}
	for _, l := range c.w.deadLetters() {
		left[l.ID] = true
	}
	done, superseded := 0, 0
	for _, l := range before {
		p := c.pairs[c.byPost(l.ActivityID).name+" "+l.Inbox]
		switch stays, because := c.stays(&l, p, which, retried); {
		case stays && !left[l.ID]:
			c.wrong("%s: its dead letter is gone although %s (retried %t)", p, because, retried)
		case !stays && left[l.ID]:
			c.wrong("%s: its dead letter stays (retried %t)", p, retried)
		case stays && because == deletedSince:
			superseded++
		}
		if left[l.ID] {
			continue
		}
		done++
		if p.told != queue.EventDead {
			c.wrong("%s: a dead letter, and the feed has no entry", p)
		}
		c.checkDeath(p, l.Reason, l.Attempts)
		if p.ended, p.deleted = queue.StateDead, !retried; retried {
			c.revived(p, lasts)
		}
	}
	c.note("letters", retried, done, superseded)
	c.figures.superseded += superseded
	if done != n.Done || superseded != n.Superseded {
		c.wrong("%d dead letters are gone and %d superseded, but it was said to be %+v (retried %t)", done, superseded, n, retried)
	}
	if retried {
		c.revivals += done
	}
}

const deletedSince = "its object was deleted since"

// stays reports whether a call must leave a dead letter, and why.
func (c *checker) stays(l *queue.DeadLetter, p *pair, which queue.DeadLetterChoice, retried bool) (bool, string) {
	f := which.Filter
	switch {
	case len(which.IDs) > 0 && !slices.Contains(which.IDs, l.ID),
		f.Host != "" && f.Host != l.Host, f.Reason != "" && f.Reason != l.Reason:
		return true, "it was not meant"
	case !retried:
		return false, ""
	case p.host.blocked, p.host.unavailable:
		return true, "its host takes nothing"
	case p.post.role != queue.Deletes && c.supersedes(p.post) != nil:
		return true, deletedSince
	}
	return false, ""
}

// revived records that a dead letter is pending again, at its old position.
func (c *checker) revived(p *pair, lasts time.Duration) {
	now := time.Now()
	p.ended = ""
	p.spent = 0
	p.void = time.Time{}
	p.expires = now.Add(lasts)
	p.revived = now
	p.host.revived = now
	p.told, p.post.done = "", nil
	p.post.deaths--
	c.line(p)
	if p.host.blocked || p.host.unavailable {
		c.wrong("%s: pending again, though its host takes nothing", p)
	}
	if !c.pending(p) {
		c.wrong("%s: not pending though it was retried", p)
	}
}

// deadLetters lists all dead letters of the store.
func (w *world) deadLetters() (all []queue.DeadLetter) {
	for page := (queue.Page{Limit: 500}); ; {
		l, err := w.store().Queue.DeadLetters(context.WithoutCancel(w.life), queue.DeadLetterFilter{}, page)
		if errors.Is(err, queue.ErrClosed) {
			return nil
		} else if err != nil {
			panic(err)
		}
		all = append(all, l.Items...)
		if page.Cursor = l.Next; page.Cursor == "" {
			return all
		}
	}
}
