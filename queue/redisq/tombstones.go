package redisq

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// Tombstones are in every partition: what they supersede may be where the deletion does not go. A submission that is stored
// in one script leaves its tombstone in that; for one that is stored in steps it is left between commit and release.

// epitaph is what a tombstone tells beyond hashes: the object and the deletion's URI. Others than deletions have none.
func epitaph(a *queue.Activity) string {
	if a.Role != queue.Deletes || a.Object == "" {
		return ""
	}
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(a.Object)))) + a.Object + a.URI
}

var errEpitaph = errors.New("a tombstone is not what it was written as")

// readEpitaph undoes epitaph.
func readEpitaph(text string) (object, uri string, err error) {
	const size = 4
	if len(text) < size || uint64(len(text)-size) < uint64(binary.BigEndian.Uint32([]byte(text))) {
		return "", "", errEpitaph
	}
	end := size + int(binary.BigEndian.Uint32([]byte(text)))
	return text[size:end], text[end:], nil
}

// noteObject keeps in mind, before anything of a committed submission is released, what it does to its object. If it
// can't in a partition, Sweep tries again.
func (in *intake) noteObject(ctx context.Context) {
	if err := in.s.noteObject(context.WithoutCancel(ctx), in.sub.Activity, in.sub.Refers); err != nil {
		in.s.logLimited("note object", fmt.Errorf("note the object of %s: %w", in.id, err))
		in.s.leave(in.home, in.id)
	}
}

// noteObject keeps in mind in every partition what a committed activity does to its object, or undoes by the URI of a
// deletion. It may be repeated.
func (s *releaser) noteObject(ctx context.Context, a queue.Activity, undoes string) error {
	if a.Role != queue.Deletes && a.Role != queue.Restores {
		return nil
	}
	id, err := uuid.Parse(a.ID)
	if err != nil {
		return err
	}
	args := []string{
		string(id[:]), nameHash(a.URI), strconv.Itoa(int(a.Role)), optionalHash(a.Object), optionalHash(undoes), epitaph(&a),
	}
	return s.forEach(func(p *partition) error {
		return p.run(ctx, script.Entomb, nil, args)
	})
}

// dropTombstones drops tombstones that stood for long enough.
func (s *sweeper) dropTombstones(ctx context.Context, p *partition, first []string) (int, error) {
	if len(first) == 0 {
		return 0, nil
	}
	return p.number(ctx, script.Crumble, nil, first)
}

// tombstones returns all tombstones, by when they were left. Every partition has the same.
func (x *export) tombstones(ctx context.Context) (all []accepted, err error) {
	p := x.s.parts[0]
	for from := int64(0); ; from += chunk {
		var page []string
		err := x.s.read(ctx, x.s.client.B().Lrange().Key(p.Key(rediskeys.Tombs)).Start(from).Stop(from+chunk-1).Build(), &page)
		if err != nil {
			return nil, err
		}
		for _, text := range page {
			some, err := x.standing(ctx, p, text)
			if err != nil {
				return nil, err
			}
			all = append(all, some...)
		}
		if len(page) < chunk {
			return all, nil
		}
	}
}

// standing returns a tombstone of the list unless another stands in its place or none does.
func (x *export) standing(ctx context.Context, p *partition, listed string) ([]accepted, error) {
	number := listed[:8]
	object := listed[8:]
	text, err := x.tombstone(ctx, p, object)
	if err != nil || text == "" || text[:8] != number {
		return nil, err
	}
	at := int64(binary.BigEndian.Uint64([]byte(number)))/1000 + year2025
	return []accepted{{at: at, id: uuid.UUID([]byte(text[8:24])), object: object}}, nil
}

// tombstone reads the tombstone of an object, "" if it has none; see tombstones.lua.
func (x *export) tombstone(ctx context.Context, p *partition, object string) (text string, err error) {
	err = x.s.read(ctx, x.s.client.B().Hget().Key(p.Key(rediskeys.Tombstones)).Field(object).Build(), &text)
	if err == nil && text != "" && len(text) < 40 {
		err = errEpitaph
	}
	return text, err
}

// movedTombstone reads a tombstone that was found.
func (x *export) movedTombstone(ctx context.Context, a accepted) (*queue.MovedTombstone, error) {
	text, err := x.tombstone(ctx, x.s.parts[0], a.object)
	if err != nil {
		return nil, err
	}
	if text == "" {
		return nil, queue.ErrNotFound
	}
	object, uri, err := readEpitaph(text[40:])
	return &queue.MovedTombstone{Object: object, Deletion: uri, ActivityID: a.id.String(), CreatedAt: x.s.parts[0].lag.shown(a.at)}, err
}

// importTombstone stores a tombstone of another store in every partition.
func (s *conn) importTombstone(ctx context.Context, m *queue.MovedTombstone) (isNew bool, err error) {
	id, err := uuid.Parse(m.ActivityID)
	if err != nil {
		return false, fmt.Errorf("activity of a tombstone: %w", err)
	}
	a := queue.Activity{URI: m.Deletion, Object: m.Object, Role: queue.Deletes}
	args := []string{string(id[:]), nameHash(m.Deletion), nameHash(m.Object), epitaph(&a)}
	added, err := fromEach(s, func(p *partition) (int, error) {
		at := strconv.FormatInt(p.lag.stored(m.CreatedAt), 10)
		return p.number(ctx, script.ImportTombstone, nil, append(args[:len(args):len(args)], at))
	})
	return sum(added) > 0, err
}
