package config

import (
	"errors"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// RelayCall is the arguments of the command Relay. Install is print or apply: only write the schema of the outbox, or make it.
type RelayCall struct {
	Database Secret        `name:"database-url" type:"database-url" variable:"" placeholder:"URL|@FILE" help:"the app's PostgreSQL database, postgres://… or host=… dbname=…"`
	URL      string        `name:"url" type:"api-url" variable:"" shown:"the node at listen" placeholder:"URL" help:"the node's API"`
	Token    Secret        `name:"token" type:"token" variable:"" shown:"the first of api-tokens" placeholder:"TOKEN" help:"bearer token for it"`
	Listen   string        `name:"relay-listen" type:"listen" variable:"" default:"127.0.0.1:8090" placeholder:"HOST:PORT" help:"address of /metrics, /healthz and /readyz"`
	Poll     time.Duration `name:"poll-interval" min:"100ms" variable:"" default:"5s" placeholder:"TIME" help:"how often to look for rows that no notification announced"`
	Install  string        `name:"install" type:"choice" choices:"print apply" placeholder:"print|apply" help:"only print the tables of the outbox as SQL, or make them"`
}

var errDatabase = errors.New("want postgres://USER@HOST:PORT/NAME, or host=HOST dbname=NAME, or @FILE that holds it")

func (r *RelayCall) check() *UsageError {
	if !r.Database.IsSet() && r.Install != "print" {
		return &UsageError{Setting: "database-url", Accepted: errDatabase.Error()}
	}
	return nil
}

// databaseURL reads where a database is. Only the form is checked: the rest is up to the driver.
func (f *secretFiles) databaseURL(_ *kong.Tag, raw string) (Secret, error) {
	text, _, err := f.text(raw)
	if err != nil {
		return Secret{}, err
	}
	raw = strings.TrimSpace(text)
	isURL := strings.HasPrefix(raw, "postgres://") || strings.HasPrefix(raw, "postgresql://")
	if !isURL && !strings.Contains(raw, "=") || strings.Contains(raw, "\n") {
		return Secret{}, errDatabase
	}
	return NewSecret(raw), nil
}
