package printable

import (
	"net/netip"
	"strings"
)

// Error describes an error in one line, as Line does. It leaves out the addresses of this machine and its network that the
// errors of net name: the local end of a connection, and the name server.
func Error(err error, most int) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if at := strings.Index(text, "lookup "); at >= 0 {
		text = text[:at] + withoutServer(text[at:])
	}
	return Line(withoutLocalEnds(text), most)
}

// withoutServer removes the name server's address from the error of a look-up, "lookup NAME on ADDRESS: …".
func withoutServer(text string) string {
	_, after, found := strings.Cut(text, " on ")
	address, _, ended := strings.Cut(after, ": ")
	if !found || !ended || !isAddress(address) {
		return text
	}
	text = strings.ReplaceAll(text, " on "+address, "")
	text = strings.ReplaceAll(text, "->"+address, "->"+nameServer)
	return strings.ReplaceAll(text, " "+address, " "+nameServer)
}

// nameServer stands for the address of a name server.
const nameServer = "name server"

// withoutLocalEnds shortens each "LOCAL->REMOTE" to "REMOTE".
func withoutLocalEnds(text string) string {
	var kept strings.Builder
	for {
		before, after, found := strings.Cut(text, "->")
		if !found {
			kept.WriteString(text)
			return kept.String()
		}
		start := strings.LastIndexAny(before, " (\"'=,\t\n") + 1
		if isAddress(before[start:]) {
			kept.WriteString(before[:start])
		} else {
			kept.WriteString(before)
			kept.WriteString("->")
		}
		text = after
	}
}

// isAddress reports whether the text is an address with a port.
func isAddress(text string) bool {
	_, err := netip.ParseAddrPort(text)
	return err == nil
}
