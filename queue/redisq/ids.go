package redisq

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

// A delivery's ID is its activity's, a point, and ordinal × partitions + partition: so it tells the partition, and the
// IDs of one activity have an order across partitions.

func (p *partition) deliveryID(activity string, ordinal int64) string {
	return activity + "." + strconv.FormatInt(p.numberOf(ordinal), 10)
}

// numberOf is the number in a delivery's ID.
func (p *partition) numberOf(ordinal int64) int64 {
	return ordinal*int64(len(p.parts)) + int64(p.N)
}

// splitID returns what a delivery's ID tells, if it is one in this partition.
func (p *partition) splitID(id string) (activity uuid.UUID, ordinal int64, ok bool) {
	text, number, _ := strings.Cut(id, ".")
	activity, err := uuid.Parse(text)
	if err != nil {
		return activity, 0, false
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || int64(n)%int64(len(p.parts)) != int64(p.N) {
		return activity, 0, false
	}
	return activity, int64(n) / int64(len(p.parts)), true
}

// sixBytes shortens a text to six bytes, as many of them are stored.
func sixBytes(text string) string {
	return string(binary.BigEndian.AppendUint64(nil, xxhash.Sum64String(text))[2:])
}

// chainOf returns the name of a chain: that of an ordering key and an inbox, each given by its six bytes. That two chains of
// a lane may share a name only means that one may wait for the other. Scripts make it likewise (search.lua).
func chainOf(ordering, inbox string) string {
	number := func(text string) uint64 { return binary.BigEndian.Uint64(append([]byte{0, 0}, text...)) }
	return string(binary.BigEndian.AppendUint64(nil, number(ordering)+number(inbox))[2:])
}

// contentHash shortens an activity's bytes, so that no two share one. Its URI and what it does to its object follow from the
// bytes, but are known to the store from elsewhere.
func contentHash(a *queue.Activity) string {
	body := sha256.Sum256(a.Body)
	return nameHash(string(body[:]) + a.URI + "\n" + a.Object + "\n" + strconv.Itoa(int(a.Role)))
}

// nameHash shortens the ID of a key, an activity or an object, which have no bound, so that no two share one.
func nameHash(name string) string {
	sum := sha256.Sum256([]byte(name))
	return string(sum[:16])
}

// optionalHash returns the nameHash of a name, "" if there is none.
func optionalHash(name string) string {
	if name == "" {
		return ""
	}
	return nameHash(name)
}

// letterName is what a dead letter is called in its partition: its activity's ID and its ordinal.
func letterName(id uuid.UUID, ordinal int64) string {
	return string(binary.BigEndian.AppendUint32(id[:len(id):len(id)], uint32(ordinal))) // it counts recipients
}

// ordinalOf is the ordinal in a letter's name, as scripts want it.
func ordinalOf(name string) string {
	return strconv.FormatUint(uint64(binary.BigEndian.Uint32([]byte(name[idBytes:]))), 10)
}

const (
	idBytes     = len(uuid.UUID{})
	letterBytes = idBytes + 4 // see letterName
	nameBytes   = 5           // of a body, see bodies.lua
)
