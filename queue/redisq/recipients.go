package redisq

import (
	"context"
	"strconv"
	"strings"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
)

// listed is one delivery in an activity's list.
type listed struct {
	ordinal     int64
	host, inbox string // "" once it is done
	dead        bool
	past, ids   string // see listing
}

// pages reads an activity's list from an ordinal on, and calls next for each page while that wants more.
func (p *partition) pages(ctx context.Context, id string, from int64, next func([]listed) (more bool, err error)) error {
	for {
		var texts []string
		err := p.read(ctx, p.client.B().Lrange().Key(p.Of(rediskeys.Recipients, id)).Start(from).Stop(from+chunk-1).Build(), &texts)
		if err != nil {
			return err
		}
		page := make([]listed, len(texts))
		for i, text := range texts {
			page[i] = readListed(from+int64(i), text)
		}
		if more, err := next(page); err != nil || !more || len(texts) < chunk {
			return err
		}
		from += chunk
	}
}

func readListed(ordinal int64, text string) listed {
	text, dead := strings.CutPrefix(text, "!")
	l := listed{ordinal: ordinal, dead: dead}
	text, l.past, l.ids = splitListing(text)
	l.host, l.inbox = splitInbox(text)
	return l
}

// wantPending returns the hosts of the deliveries in a page that pend, and what search.lua wants to know of them.
func wantPending(page []listed) (hosts, args []string) {
	wanted := map[string][]string{} // by host ordinal and inbox of each
	for _, d := range page {
		if d.host == "" || d.dead {
			continue
		}
		if wanted[d.host] == nil {
			hosts = append(hosts, d.host)
		}
		wanted[d.host] = append(wanted[d.host], strconv.FormatInt(d.ordinal, 10), sixBytes(d.inbox))
	}
	for _, host := range hosts {
		args = append(append(args, host, strconv.Itoa(len(wanted[host])/2)), wanted[host]...)
	}
	return hosts, args
}

// target is an inbox as it is stored: what follows the host; with a line break before it where that is http://HOST/…; or a
// line break and the whole inbox where that is neither.
func target(r queue.Recipient) string {
	if rest, ok := strings.CutPrefix(r.Inbox, "https://"+r.Host); ok && strings.HasPrefix(rest, "/") {
		return rest
	}
	if rest, ok := strings.CutPrefix(r.Inbox, "http://"+r.Host); ok && strings.HasPrefix(rest, "/") {
		return "\n" + rest
	}
	return "\n" + r.Inbox
}

// inboxOf undoes target.
func inboxOf(host, rest string) string {
	if strings.HasPrefix(rest, "\n/") {
		return "http://" + host + rest[1:]
	}
	if whole, ok := strings.CutPrefix(rest, "\n"); ok {
		return whole
	}
	return "https://" + host + rest
}

// splitInbox takes apart what an activity's list has of a delivery.
func splitInbox(text string) (host, inbox string) {
	i := strings.IndexAny(text, "/\n")
	if i < 0 {
		return text, ""
	}
	return text[:i], inboxOf(text[:i], text[i:])
}
