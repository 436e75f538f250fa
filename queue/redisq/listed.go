package redisq

import (
	"encoding/binary"
	"strings"

	"github.com/postrider/postrider/queue"
)

// An activity's list holds of each delivery its host and path and, if there is either, behind a zero byte, the length of the
// attempts before the last one (2 bytes), these, and the IDs of the actors behind the inbox. So a lane holds nothing of them.

// listing makes such a text of its parts.
func listing(to, past, ids string) string {
	if past+ids == "" {
		return to
	}
	return to + "\x00" + string(binary.BigEndian.AppendUint16(nil, uint16(len(past)))) + past + ids // they are few
}

// splitListing undoes listing.
func splitListing(text string) (to, past, ids string) {
	const size = 2
	to, rest, _ := strings.Cut(text, "\x00")
	if len(rest) < size || len(rest) < size+int(binary.BigEndian.Uint16([]byte(rest))) {
		return to, "", ""
	}
	end := size + int(binary.BigEndian.Uint16([]byte(rest)))
	return to, rest[size:end], rest[end:]
}

// packIDs returns IDs of actors as they are stored: each with its length before it, without https:// and the host of the
// inbox where it begins so.
func packIDs(host string, ids []string) string {
	var b []byte
	for _, id := range ids {
		if rest, ok := strings.CutPrefix(id, "https://"+host+"/"); ok {
			id = "/" + rest
		} else if strings.HasPrefix(id, "/") || strings.HasPrefix(id, "\x00") {
			id = "\x00" + id
		}
		b = append(binary.AppendUvarint(b, uint64(len(id))), id...)
	}
	return string(b)
}

// unpackIDs undoes packIDs. It ends where the text is damaged.
func unpackIDs(host, text string) (ids []string) {
	for text != "" {
		n, size := binary.Uvarint([]byte(text[:min(len(text), binary.MaxVarintLen64)]))
		if size <= 0 || n > uint64(len(text)-size) {
			break
		}
		end := size + int(n) // it is no more than the text has
		id := text[size:end]
		text = text[end:]
		if strings.HasPrefix(id, "/") {
			id = "https://" + host + id
		}
		ids = append(ids, strings.TrimPrefix(id, "\x00"))
	}
	return ids
}

// hasIDs reports whether a recipient has IDs.
func hasIDs(r queue.Recipient) bool { return len(r.IDs) > 0 }
