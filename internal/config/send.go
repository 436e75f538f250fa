package config

import "strings"

// SendCall is the arguments of the command Send. A file named "-" is standard input.
type SendCall struct {
	Inbox   string `arg:"" name:"inbox" help:"the URL of the inbox"`
	File    string `arg:"" name:"file" help:"the activity in JSON, or - for standard input"`
	KeyID   string `name:"key-id" required:"" placeholder:"URL" help:"where receivers find the public key"`
	KeyFile string `name:"key-file" required:"" placeholder:"FILE" help:"the private key in PEM, or - for standard input"`
}

func (s *SendCall) check() *UsageError {
	switch {
	case strings.Contains(s.KeyID+s.KeyFile+s.File+s.Inbox, "PRIVATE KEY"):
		return errKeyTyped
	case s.File == "-" && s.KeyFile == "-":
		return &UsageError{Setting: "key-file", Value: "-", Accepted: "want a file: standard input holds the activity"}
	}
	return nil
}
