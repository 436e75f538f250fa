package config

import "strings"

// SendCall is the arguments of the command Send.
type SendCall struct {
	Inbox   string
	File    string // with the activity; "-" is standard input
	KeyID   string
	KeyFile string // with its private key in PEM; "-" is standard input
}

// sendCommand is the command line of Send.
type sendCommand struct {
	Inbox   string `arg:"" name:"inbox"`
	File    string `arg:"" name:"file"`
	KeyID   string `name:"key-id" required:"" placeholder:"URL" help:"where receivers find the public key"`
	KeyFile string `name:"key-file" required:"" placeholder:"FILE" help:"the private key in PEM, or - for standard input"`
}

func (s *sendCommand) call() SendCall {
	return SendCall{Inbox: s.Inbox, File: s.File, KeyID: s.KeyID, KeyFile: s.KeyFile}
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
