package config

import (
	"embed"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// shells has a script for each shell. Each calls the command Complete with the words before the cursor.
//
//go:embed shell
var shells embed.FS

// cursor is where a command line ends.
type cursor struct {
	app       *kong.Application
	node      *kong.Node // the command
	flag      *kong.Flag // waits for its value; nil if none does
	arguments int        // of the command, so far
}

// candidates returns what the last of the words can become, one a line, each with a description after a tab. The line
// ":files" stands for the names of files.
func candidates(app *kong.Application, words []string) string {
	const assign = "=" // a word of its own in bash
	if len(words) == 0 || words[len(words)-1] == assign {
		words = append(words, "")
	}
	words = slices.DeleteFunc(words, func(w string) bool { return w == assign })
	last := words[len(words)-1]
	c := cursor{app: app, node: app.Node}
	for _, word := range words[:len(words)-1] {
		c.pass(word)
	}
	var text strings.Builder
	for _, line := range c.all(last) {
		if strings.HasPrefix(line, last) || line == filesFollow {
			text.WriteString(line + "\n")
		}
	}
	return text.String()
}

// pass moves the cursor behind a word.
func (c *cursor) pass(word string) {
	if c.flag != nil {
		c.flag = nil
		return
	}
	if name, isFlag := strings.CutPrefix(word, "--"); isFlag {
		if flag := c.flagNamed(name); flag != nil && !flag.IsBool() {
			c.flag = flag
		}
		return
	}
	for _, child := range c.node.Children {
		if child.Name == word {
			c.node = child
			return
		}
	}
	c.arguments++
}

func (c *cursor) flagNamed(name string) *kong.Flag {
	for _, flag := range flagsOf(c.app, c.node) {
		if flag.Name == name {
			return flag
		}
	}
	return nil
}

// all returns all lines of which one that begins with the word can be meant.
func (c *cursor) all(word string) (lines []string) {
	name, _, assigned := strings.Cut(word, "=")
	switch flag := c.flagNamed(strings.TrimPrefix(name, "--")); {
	case c.flag != nil:
		return values(c.flag.Value, "")
	case assigned && flag != nil:
		return values(flag.Value, name+"=")
	case strings.HasPrefix(word, "-"):
		for _, flag := range flagsOf(c.app, c.node) {
			lines = append(lines, "--"+flag.Name+"\t"+flag.Help)
		}
		return append(lines, "--help\tshow help")
	}
	for _, child := range c.node.Children {
		if !child.Hidden {
			lines = append(lines, child.Name+"\t"+child.Help)
		}
	}
	if c.arguments < len(c.node.Positional) {
		lines = append(lines, values(c.node.Positional[c.arguments], "")...)
	}
	return lines
}

const filesFollow = ":files"

// values returns the lines for a value, each after a prefix.
func values(v *kong.Value, prefix string) (lines []string) {
	kind := v.Tag.Get("type")
	switch {
	case strings.HasSuffix(kind, "file") || strings.HasSuffix(v.Name, "file") || kind == "svg":
		return []string{filesFollow}
	case v.IsBool():
		lines = []string{"true", "false"}
	case v.Enum != "":
		lines = strings.Split(v.Enum, ",")
	case v.Name == "store" || v.Name == "to":
		lines = []string{"embedded:", "redis://", "rediss://", "redis+unix:///", "redis+cluster://", "redis+sentinel://"}
	default:
		lines = strings.Fields(v.Tag.Get("choices"))
	}
	for i := range lines {
		lines[i] = prefix + lines[i]
	}
	return lines
}
