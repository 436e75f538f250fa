package config

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// KeysCall is the arguments of the command Keys.
type KeysCall struct {
	Action string // list, add, remove or reseal
	KeyID  string // of the key to add or remove
	File   string // with the private key to add; "-" is standard input
	JSON   bool   // list as JSON
	URL    string // of the node's API, without a slash at its end
	Token  Secret // for the API, if it requires one
}

// keysCommand is the command line of Keys. A private key is never on it, where all users of a machine can see it.
type keysCommand struct {
	URL   string `name:"url" type:"api-url" variable:"" shown:"the node at listen" placeholder:"URL" help:"the node's API"`
	Token Secret `name:"token" type:"token" variable:"" shown:"the first of api-tokens" placeholder:"TOKEN" help:"bearer token for it"`

	List struct {
		JSON bool `name:"json" help:"print JSON"`
	} `cmd:"" help:"list the keys of a running node"`
	Add struct {
		KeyID string `arg:"" name:"key-id" help:"the URL where receivers find the public key"`
		File  string `arg:"" name:"file" help:"the private key in PEM, or - for standard input"`
	} `cmd:"" help:"store or replace a private key, from a file in PEM or - for standard input"`
	Remove struct {
		KeyID string `arg:"" name:"key-id" help:"the key's ID"`
	} `cmd:"" help:"remove a key; its deliveries wait until it is put again"`
	Reseal struct{} `cmd:"" help:"encrypt all keys again, with the node's first master key"`
}

// call returns the arguments. action is the command's second word and the names of its arguments.
func (k *keysCommand) call(c *Config, action string) KeysCall {
	action, _, _ = strings.Cut(action, " ")
	url, token := c.api(k.URL, k.Token)
	return KeysCall{
		Action: action, KeyID: cmp.Or(k.Add.KeyID, k.Remove.KeyID), File: k.Add.File, JSON: k.List.JSON,
		URL: url, Token: token,
	}
}

// api returns the URL and the token of a node's API: by default those of the node that has these settings, on this machine.
func (c *Config) api(url string, token Secret) (string, Secret) {
	if !token.IsSet() && len(c.APITokens) > 0 {
		token = c.APITokens[0].Secret
	}
	return cmp.Or(url, "http://"+c.DialAddress()), token
}

// errKeyTyped does not repeat the arguments.
var errKeyTyped = &UsageError{Accepted: "a private key is never an argument: want the name of a file, or - for standard input"}

func (k *KeysCall) check() *UsageError {
	if strings.Contains(k.KeyID+k.File, "PRIVATE KEY") {
		return errKeyTyped
	}
	return nil
}

// DialAddress returns the address at which a node that listens on c.Listen is reached from the same machine. The unspecified
// address of IPv6 includes IPv4 on some systems only, so it becomes localhost, which has both.
func (c *Config) DialAddress() string {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return c.Listen // dialling it returns the error
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && ip.Unmap() == netip.IPv4Unspecified():
		host = "127.0.0.1"
	case host == "" || err == nil && ip == netip.IPv6Unspecified():
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// isForNodes reports whether the command ignores a variable. A user who manages keys, or runs a relay, need not be able to
// read the files that a node's settings name.
func isForNodes(ctx *kong.Context, flag *kong.Flag) bool {
	name, _, _ := strings.Cut(ctx.Command(), " ")
	command := Command(name)
	client := slices.Contains([]Command{Complete, Completion, Keys, Man, Relay, Send}, command)
	return client && !flag.Tag.Has("variable") && !command.uses(flag.Name)
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
