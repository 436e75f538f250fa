// Package printable makes text from outside safe to store and to show: answers of inboxes, and errors that quote
// certificates or broken protocols.
package printable

import (
	"strings"
	"unicode"
)

// Line returns the text as one line of at most most characters (runes) in valid UTF-8. Runs of white space become one
// space, with none at either end. Unprintable characters are left out: control characters and so terminal escapes,
// invisible characters and those that change the direction of writing, and bytes that are not UTF-8.
func Line(text string, most int) string {
	var line strings.Builder
	length := 0
	for word := range strings.FieldsSeq(text) {
		gap := min(length, 1) // before all words but the first
		for _, r := range word {
			if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
				continue
			}
			if length+gap >= most {
				return line.String()
			}
			if gap > 0 {
				line.WriteByte(' ')
			}
			line.WriteRune(r)
			length += gap + 1
			gap = 0
		}
	}
	return line.String()
}
