package config

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKeysCalls(t *testing.T) {
	const here = "http://127.0.0.1:8080"
	secret, ops := NewSecret("hunter2"), NewSecret(goodToken)
	unreadable := "POSTRIDER_MASTER_KEY=@" + filepath.Join(t.TempDir(), "absent")
	for _, test := range []struct {
		args, environ []string
		want          KeysCall
	}{
		{[]string{"keys", "list"}, nil, KeysCall{Action: "list", URL: here}},
		{[]string{"keys", "list", "--json"}, nil, KeysCall{Action: "list", JSON: true, URL: here}},
		{[]string{"keys", "add", "k#1", "key.pem"}, nil, KeysCall{Action: "add", KeyID: "k#1", File: "key.pem", URL: here}},
		{[]string{"keys", "add", "k", "-"}, nil, KeysCall{Action: "add", KeyID: "k", File: "-", URL: here}},
		{[]string{"keys", "remove", "k"}, nil, KeysCall{Action: "remove", KeyID: "k", URL: here}},
		{[]string{"keys", "reseal"}, nil, KeysCall{Action: "reseal", URL: here}},
		{[]string{"keys", "reseal", "--url=https://h.example/api/", "--token", "hunter2"}, nil,
			KeysCall{Action: "reseal", URL: "https://h.example/api", Token: secret}},
		{[]string{"keys", "--url=http://h", "--token=hunter2", "list"}, nil, KeysCall{Action: "list", URL: "http://h", Token: secret}},
		{[]string{"keys", "list"}, []string{"POSTRIDER_URL=http://h", "POSTRIDER_TOKEN=hunter2"}, KeysCall{Action: "list", URL: "http://h", Token: secret}},
		{[]string{"keys", "list", "--token=hunter2"}, []string{"POSTRIDER_TOKEN=x"}, KeysCall{Action: "list", URL: here, Token: secret}},
		{[]string{"keys", "list"}, []string{"POSTRIDER_API_TOKENS=ops:" + goodToken + ",b:x" + goodToken}, KeysCall{Action: "list", URL: here, Token: ops}},
		{[]string{"keys", "list"}, []string{"POSTRIDER_LISTEN=0.0.0.0:81"}, KeysCall{Action: "list", URL: "http://127.0.0.1:81"}},
		{[]string{"keys", "list", "--listen=[::]:81"}, nil, KeysCall{Action: "list", URL: "http://localhost:81"}},
		{[]string{"keys", "list", "--listen=:81"}, nil, KeysCall{Action: "list", URL: "http://localhost:81"}},
		{[]string{"keys", "list", "--listen=box.example:81"}, nil, KeysCall{Action: "list", URL: "http://box.example:81"}},
		// Settings that a node would refuse don't concern this command.
		{[]string{"keys", "list"}, []string{unreadable, "POSTRIDER_STORE=redis://h", "POSTRIDER_RETRY_BASE=soon"}, KeysCall{Action: "list", URL: here}},
	} {
		if diff := cmp.Diff(test.want, mustParse(t, test.args, test.environ...).Keys, showSecrets); diff != "" {
			t.Errorf("%q with %q: %s", test.args, test.environ, diff)
		}
	}
}

func TestBadKeysCalls(t *testing.T) {
	const key = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----"
	for _, test := range []struct {
		args []string
		says string
	}{
		{[]string{"keys"}, "expected one of"},
		{[]string{"keys", "drop"}, "drop"},
		{[]string{"keys", "add"}, "<key-id>"},
		{[]string{"keys", "add", "k"}, "<file>"},
		{[]string{"keys", "remove"}, "<key-id>"},
		{[]string{"keys", "remove", "k", "l"}, "l"},
		{[]string{"keys", "reseal", "--json"}, "--json"},
		{[]string{"keys", "list", "--url=h:80"}, "https://postrider.example"},
		{[]string{"keys", "list", "--url=ftp://h"}, "https://postrider.example"},
		{[]string{"keys", "list", "--url=http://"}, "https://postrider.example"},
		{[]string{"keys", "list", "--url=http://u:hunter2@h"}, "https://postrider.example"},
		{[]string{"keys", "list", "--token=hunter2 hunter2"}, "without its name"},
		// A private key is not repeated, wherever it was put.
		{[]string{"keys", "add", "k", key}, "never an argument"},
		{[]string{"keys", "add", key, "key.pem"}, "never an argument"},
		{[]string{"keys", "add", "k", "--", key}, "never an argument"},
		{[]string{"keys", "add", "k", "key.pem", key}, "never an argument"},
		{[]string{"keys", key}, "never an argument"},
		{[]string{"keys", "remove", " " + key}, "never an argument"},
		{[]string{"keys", "list", "--url=" + key}, "never an argument"},
	} {
		_, err := parse(t, test.args)
		usage, ok := errors.AsType[*UsageError](err)
		if !ok || usage.ExitCode() != 2 || !strings.Contains(usage.Error(), test.says) {
			t.Errorf("%q: got %v, want a line with %s", test.args, err, test.says)
		}
		if strings.Contains(usage.Error(), "hunter2") {
			t.Errorf("%q: the error tells a secret: %v", test.args, usage)
		}
	}
}
