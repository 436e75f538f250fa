package config

import (
	"cmp"
	"errors"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// KeysCall is what the command Keys shall do.
type KeysCall struct {
	Action string // list, add, remove or reseal
	KeyID  string // to add or remove
	File   string // with the private key to add; "-" is standard input
	JSON   bool   // how to list
	URL    string // of the node's API, without a slash at its end
	Token  Secret // for the API, if it wants one
}

// keysCommand is the command line of Keys. A private key is never on it, where all users of a machine can see it.
type keysCommand struct {
	URL   string `name:"url" type:"api-url" variable:"" placeholder:"URL" help:"the node's API"`
	Token Secret `name:"token" type:"token" variable:"" placeholder:"TOKEN" help:"bearer token for it"`

	List struct {
		JSON bool `name:"json" help:"as JSON"`
	} `cmd:"" help:"list the keys of a running node (--url and --token say which; --json)"`
	Add struct {
		KeyID string `arg:"" name:"key-id"`
		File  string `arg:"" name:"file"`
	} `cmd:"" help:"store or replace a private key, from a file in PEM or - for standard input"`
	Remove struct {
		KeyID string `arg:"" name:"key-id"`
	} `cmd:"" help:"remove a key; what it would sign waits for it"`
	Reseal struct{} `cmd:"" help:"encrypt all keys anew with the node's first master key"`
}

// call returns what shall be done: action is the command's second word, with its arguments.
func (k *keysCommand) call(c *Config, action string) KeysCall {
	action, _, _ = strings.Cut(action, " ")
	token := k.Token
	if !token.IsSet() && len(c.APITokens) > 0 {
		token = c.APITokens[0].Secret
	}
	return KeysCall{
		Action: action, KeyID: cmp.Or(k.Add.KeyID, k.Remove.KeyID), File: k.Add.File, JSON: k.List.JSON,
		URL: cmp.Or(k.URL, "http://"+reachable(c.Listen)), Token: token,
	}
}

// errKeyTyped says nothing of what was typed.
var errKeyTyped = &UsageError{Accepted: "a private key is never an argument: want the name of a file, or - for standard input"}

func (k *KeysCall) check() *UsageError {
	if strings.Contains(k.KeyID+k.File, "PRIVATE KEY") {
		return errKeyTyped
	}
	return nil
}

// reachable is where a node that listens on an address is reached from the same machine.
func reachable(listen string) string {
	host, port, _ := net.SplitHostPort(listen)
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}

// isForNodes tells whether a variable is of no use to the command. Who manages keys need not be able to read the files
// that a node's settings name.
func isForNodes(ctx *kong.Context, flag *kong.Flag) bool {
	command, _, _ := strings.Cut(ctx.Command(), " ")
	return command == string(Keys) && !slices.Contains([]string{"url", "token", "listen", "api-tokens"}, flag.Name)
}

func apiURL(_ *kong.Tag, raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("want a URL such as http://127.0.0.1:8080 or https://postrider.example")
	}
	return strings.TrimRight(raw, "/"), nil
}

var visible = regexp.MustCompile(`^[!-~]+$`)

func token(_ *kong.Tag, raw string) (Secret, error) {
	if !visible.MatchString(raw) {
		return Secret{}, errors.New("want a token as in api-tokens, without its name")
	}
	return NewSecret(raw), nil
}
