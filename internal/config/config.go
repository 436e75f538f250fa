// Package config turns arguments and environment variables into the settings of one run.
//
// What callers may rely on:
//
//   - Every setting is a flag and an environment variable: --retry-base is POSTRIDER_RETRY_BASE. The flag wins, and an
//     empty variable counts as unset.
//   - A Config that Parse returned without an error is checked whole: each value by itself, and those that depend on one
//     another. Files named by @FILE have been read.
//   - A bad value gives a *UsageError of one line, which names the setting, the value, where it came from and what is
//     accepted. It never shows a secret, and nor does a Config, however it is printed or logged.
//   - Nothing here reads the environment, writes to a file or keeps state: all comes from the arguments of Parse.
//
// What callers may not rely on: that an address can be listened on, that a folder can be written to or that a store
// answers. That shows when it is used.
package config

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"time"
)

// Command is what the program was asked to do.
type Command string

// The commands. Serve is meant where none is named.
const (
	Serve       Command = "serve"
	Bench       Command = "bench"
	Demo        Command = "demo"
	Healthcheck Command = "healthcheck"
	Keys        Command = "keys"
	Migrate     Command = "migrate"
	Version     Command = "version"
)

// Config holds every setting of a run. The tags are the command line: name, default and help, and for the parsers in
// values.go the kind of value and its bounds.
type Config struct {
	Command  Command   `kong:"-"`
	Bench    BenchCall `kong:"-"` // of the command Bench
	DemoExit bool      `kong:"-"` // end the demo after its summary
	Keys     KeysCall  `kong:"-"` // of the command Keys
	To       Place     `kong:"-"` // where to migrate to

	Listen    string  `name:"listen" type:"listen" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"API, dashboard and metrics; without api-tokens, loopback only"`
	APITokens []Token `name:"api-tokens" placeholder:"NAME:TOKEN" help:"bearer tokens, at least 16 characters each, or @FILE with one a line"`

	Store           Store    `name:"store" default:"embedded:./postrider-data" placeholder:"STORE" help:"embedded:DIR, or a URL: redis://, rediss://, redis+cluster://, redis+sentinel://"`
	RedisPrefix     string   `name:"redis-prefix" type:"prefix" default:"postrider" placeholder:"TEXT" help:"first part of every key; another prefix is another fleet"`
	RedisPartitions int      `name:"redis-partitions" min:"1" max:"16384" shown:"1, on a cluster 64" placeholder:"N" help:"hash-tag partitions, fixed at the first start"`
	MasterKey       []Secret `name:"master-key" type:"master-key" placeholder:"BASE64|@FILE" help:"32 bytes in base64 that encrypt private keys at rest; of several, the first encrypts and all decrypt; a Redis store requires it"`

	Concurrency     int           `name:"concurrency" min:"1" max:"65536" default:"512" placeholder:"N" help:"attempts in flight on this node"`
	HostConcurrency int           `name:"host-concurrency" min:"1" max:"256" default:"8" placeholder:"N" help:"most attempts in flight to one host, fleet-wide"`
	AttemptTimeout  time.Duration `name:"attempt-timeout" default:"30s" placeholder:"TIME" help:"one attempt, from dial to the end of the answer"`
	ConnectTimeout  time.Duration `name:"connect-timeout" default:"5s" placeholder:"TIME" help:"dial plus TLS; never more than attempt-timeout"`
	DeliveryTTL     time.Duration `name:"delivery-ttl" default:"72h" placeholder:"TIME" help:"a delivery not done by then is dead-lettered"`
	RetryBase       time.Duration `name:"retry-base" default:"15s" placeholder:"TIME" help:"scale of the retry schedule"`
	MaxAttempts     int           `name:"max-attempts" min:"1" max:"1000" default:"17" placeholder:"N" help:"attempts, after which a delivery is dead-lettered"`

	BreakerThreshold  int           `name:"breaker-threshold" min:"1" max:"10000" default:"10" placeholder:"N" help:"consecutive host failures that open the breaker"`
	BreakerCoolOff    time.Duration `name:"breaker-cool-off" default:"60s" placeholder:"TIME" help:"first open time; doubles at each failed probe"`
	BreakerCoolOffMax time.Duration `name:"breaker-cool-off-max" default:"1h" placeholder:"TIME" help:"longest open time; the first is never longer"`
	UnavailableDays   int           `name:"unavailable-days" min:"1" max:"365" default:"7" placeholder:"N" help:"days with failures and no success that make a host unavailable"`
	LeaseTTL          time.Duration `name:"lease-ttl" min:"100ms" default:"30s" placeholder:"TIME" help:"how long a host stays locked to a silent node"`

	Retention           time.Duration `name:"activity-retention" min:"24h" default:"72h" placeholder:"TIME" help:"how long finished activities are kept"`
	DeadLetterRetention time.Duration `name:"dead-letter-retention" default:"720h" placeholder:"TIME" help:"how long dead letters are kept"`
	DeadLetterCap       int           `name:"dead-letter-cap" min:"0" max:"1000000000" default:"1000000" placeholder:"N" help:"most dead letters kept, the newest; 0 is any number"`
	LaneCap             int           `name:"lane-cap" min:"0" max:"1000000000" default:"1000000" placeholder:"N" help:"most deliveries pending for one host; 0 is any number"`

	AllowPrivateAddresses []netip.Prefix `name:"allow-private-addresses" placeholder:"CIDR" help:"private or special addresses that may be dialled"`
	AllowHTTP             bool           `name:"allow-http" default:"false" help:"accept http:// inboxes"`
	CAFile                string         `name:"ca-file" type:"ca-file" shown:"system roots" placeholder:"FILE" help:"extra root certificates (PEM) for inboxes"`
	UserAgent             string         `name:"user-agent" type:"user-agent" shown:"Postrider/VERSION" placeholder:"TEXT" help:"what inboxes see; add your instance's URL: (+https://your.host/)"`
	Signing               string         `name:"signing" type:"choice" choices:"auto go openssl" default:"auto" placeholder:"NAME" help:"who does RSA: auto, go or openssl"`

	LogLevel        slog.Level    `name:"log-level" default:"info" placeholder:"LEVEL" help:"debug, info, warn or error"`
	LogFormat       string        `name:"log-format" type:"choice" choices:"auto text json" default:"auto" placeholder:"NAME" help:"text, json, or auto: text on a terminal, else json"`
	ShutdownTimeout time.Duration `name:"shutdown-timeout" default:"25s" placeholder:"TIME" help:"how long a stopping node lets attempts in flight finish"`
}

// Place says where a store is, or shall be: the settings that only migrate has.
type Place struct {
	Store      Store    `name:"to" variable:"" placeholder:"STORE" help:"migrate: the store to move to, as in store"`
	Prefix     string   `name:"to-redis-prefix" variable:"" type:"prefix" shown:"redis-prefix" placeholder:"TEXT" help:"migrate: redis-prefix of the store to move to"`
	Partitions int      `name:"to-redis-partitions" variable:"" min:"1" max:"16384" shown:"1, on a cluster 64" placeholder:"N" help:"migrate: redis-partitions of the store to move to"`
	MasterKey  []Secret `name:"to-master-key" variable:"" type:"master-key" shown:"master-key" placeholder:"BASE64|@FILE" help:"migrate: master-key of the store to move to"`
}

// fillDefaults sets what has a default that depends on something else.
func (c *Config) fillDefaults() {
	c.RedisPartitions = cmp.Or(c.RedisPartitions, c.Store.partitions())
	c.To.Partitions = cmp.Or(c.To.Partitions, c.To.Store.partitions())
	c.To.Prefix = cmp.Or(c.To.Prefix, c.RedisPrefix)
	if len(c.To.MasterKey) == 0 {
		c.To.MasterKey = c.MasterKey
	}
	c.UserAgent = cmp.Or(c.UserAgent, "Postrider/"+BuildVersion())
	// Who shortens the whole shortens its part too, and need not say so twice.
	c.ConnectTimeout = min(c.ConnectTimeout, c.AttemptTimeout)
	c.BreakerCoolOff = min(c.BreakerCoolOff, c.BreakerCoolOffMax)
}

// RootCAs returns the system's root certificates together with those of CAFile, or nil, which means the system's, where
// none is set.
func (c *Config) RootCAs() (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("system root certificates: %w", err)
	}
	return pool, appendCertificates(pool, c.CAFile)
}

// appendCertificates adds the certificates of a PEM file, of which there must be one at least.
func appendCertificates(pool *x509.CertPool, file string) error {
	pem, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("root certificates: %w", err)
	}
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("root certificates: %s: no certificate in it", file)
	}
	return nil
}

// linked is a version given to the linker (-X), by builds of which Go knows none, such as the image's.
var linked string

// BuildVersion is the version of this build, "devel" where it has none. It is a token in the sense of RFC 9110.
func BuildVersion() string {
	if linked != "" {
		return linked
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "devel"
	}
	return strings.Trim(info.Main.Version, "()")
}
