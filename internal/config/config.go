// Package config turns arguments and environment variables into the settings of one run.
//
// What callers may rely on:
//
//   - Every setting is a flag and an environment variable: --retry-base is POSTRIDER_RETRY_BASE. The flag wins, and an
//     empty variable counts as unset.
//   - A Config that Parse returned without an error has been checked: each value by itself, and those that depend on one
//     another. Files named by @FILE have been read.
//   - A bad value gives a *UsageError of one line, which names the setting, the value, where it came from and what is
//     accepted. It never shows a secret, and nor does a Config, however it is printed or logged.
//   - Nothing here reads the environment, writes to a file or keeps state: all comes from the arguments of Parse.
//
// What callers may not rely on: that an address can be listened on, that a folder can be written to or that a store
// answers.
package config

import (
	"cmp"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// Command is what the program was asked to do.
type Command string

// The commands. Without one, Serve is run.
const (
	Serve       Command = "serve"
	Backup      Command = "backup"
	Bench       Command = "bench"
	Complete    Command = "complete" // hidden: the shells call it
	Completion  Command = "completion"
	Demo        Command = "demo"
	Healthcheck Command = "healthcheck"
	Keys        Command = "keys"
	Man         Command = "man"
	Migrate     Command = "migrate"
	Relay       Command = "relay"
	Send        Command = "send"
	Version     Command = "version"
)

// Config holds every setting of a run. The tags are the command line: name, default and help, and for the parsers in
// values.go the kind of value and its bounds.
type Config struct {
	Command  Command   `kong:"-"`
	BackupTo string    `kong:"-"` // the file that the command Backup makes
	Bench    BenchCall `kong:"-"` // the arguments of the command Bench
	DemoExit bool      `kong:"-"` // end the demo after its summary
	Keys     KeysCall  `kong:"-"` // the arguments of the command Keys
	Relay    RelayCall `kong:"-"` // the arguments of the command Relay
	Send     SendCall  `kong:"-"` // the arguments of the command Send
	Text     string    `kong:"-"` // what the commands Complete, Completion and Man print
	To       Place     `kong:"-"` // the store to migrate to

	secretFiles secretFiles // the files that values were read from, by @FILE

	Listen    string  `group:"API" name:"listen" type:"listen" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"address of API, dashboard and metrics; without api-tokens, loopback only"`
	APITokens []Token `name:"api-tokens" placeholder:"NAME[/SCOPES]:TOKEN" help:"bearer tokens, at least 16 characters each, with scopes such as send+read, or @FILE with one a line, read again on SIGHUP"`

	TLSCertFile string `name:"tls-cert-file" type:"file" placeholder:"FILE" help:"certificate and chain (PEM) to serve HTTPS with; read again on SIGHUP"`
	TLSKeyFile  string `name:"tls-key-file" type:"file" placeholder:"FILE" help:"private key of tls-cert-file (PEM)"`

	Store           Store    `group:"Store" name:"store" default:"embedded:./postrider-data" placeholder:"STORE" help:"embedded:DIR, or a URL: redis://, rediss://, redis+unix://, redis+cluster://, redis+sentinel://"`
	RedisCAFile     string   `name:"redis-ca-file" type:"ca-file" shown:"system roots" placeholder:"FILE" help:"root certificates (PEM) for TLS to Redis, instead of the system's"`
	RedisCertFile   string   `name:"redis-cert-file" type:"file" placeholder:"FILE" help:"client certificate (PEM) of the node for Redis"`
	RedisKeyFile    string   `name:"redis-key-file" type:"file" placeholder:"FILE" help:"private key of redis-cert-file (PEM)"`
	RedisPrefix     string   `name:"redis-prefix" type:"prefix" default:"postrider" placeholder:"TEXT" help:"first part of every Redis key; another prefix is another fleet"`
	RedisPartitions int      `name:"redis-partitions" min:"1" max:"16384" shown:"1, on a cluster 64" placeholder:"N" help:"number of hash-tag partitions, fixed at the first start"`
	MasterKey       []Secret `name:"master-key" type:"master-key" placeholder:"BASE64|@FILE" help:"32 bytes in base64 that encrypt private keys at rest; with several, the first encrypts and all decrypt; a Redis store requires it"`

	Deliver         bool          `group:"Delivery" name:"deliver" default:"true" help:"false: take calls and serve the dashboard, but deliver nothing"`
	Concurrency     int           `name:"concurrency" min:"1" max:"65536" default:"512" placeholder:"N" help:"maximum of attempts in flight on this node"`
	HostConcurrency int           `name:"host-concurrency" min:"1" max:"256" default:"8" placeholder:"N" help:"maximum of attempts in flight to one host, in the whole fleet"`
	AttemptTimeout  time.Duration `name:"attempt-timeout" default:"30s" placeholder:"TIME" help:"time-out of an attempt, from dial to the end of the answer"`
	ConnectTimeout  time.Duration `name:"connect-timeout" default:"5s" placeholder:"TIME" help:"time-out of dial and TLS handshake; never more than attempt-timeout"`
	DNSTimeout      time.Duration `name:"dns-timeout" default:"10s" placeholder:"TIME" help:"time-out of the DNS look-up, before dial; long enough to ask a second name server"`
	DeliveryTTL     time.Duration `name:"delivery-ttl" default:"72h" placeholder:"TIME" help:"how long a delivery is tried; then it becomes a dead letter"`
	RetryBase       time.Duration `name:"retry-base" default:"15s" placeholder:"TIME" help:"scale of the retry schedule"`
	MaxAttempts     int           `name:"max-attempts" min:"1" max:"1000" default:"17" placeholder:"N" help:"maximum of attempts; then a delivery becomes a dead letter"`

	BreakerThreshold  int           `group:"Hosts that fail" name:"breaker-threshold" min:"1" max:"10000" default:"10" placeholder:"N" help:"consecutive host failures that open the breaker"`
	BreakerCoolOff    time.Duration `name:"breaker-cool-off" default:"60s" placeholder:"TIME" help:"how long a breaker first stays open; doubles with each failed probe"`
	BreakerCoolOffMax time.Duration `name:"breaker-cool-off-max" default:"1h" placeholder:"TIME" help:"longest time that a breaker stays open, also the first time"`
	UnavailableDays   int           `name:"unavailable-days" min:"1" max:"365" default:"7" placeholder:"N" help:"days with failures, without a success in between, after which a host is unavailable"`
	LeaseTTL          time.Duration `name:"lease-ttl" min:"100ms" default:"30s" placeholder:"TIME" help:"how long a host stays locked to a node that fell silent"`

	Retention           time.Duration `group:"What is kept" name:"activity-retention" min:"24h" default:"72h" placeholder:"TIME" help:"how long finished activities are kept"`
	DeadLetterRetention time.Duration `name:"dead-letter-retention" default:"720h" placeholder:"TIME" help:"how long dead letters are kept"`
	DeadLetterCap       int           `name:"dead-letter-cap" min:"0" max:"1000000000" default:"1000000" placeholder:"N" help:"how many dead letters are kept, the newest; 0 is no limit"`
	LaneCap             int           `name:"lane-cap" min:"0" max:"1000000000" default:"1000000" placeholder:"N" help:"how many deliveries may be pending for one host; 0 is no limit"`

	FeedRetention time.Duration `group:"Feed and webhook" name:"feed-retention" default:"72h" placeholder:"TIME" help:"how long entries of the feed are kept"`
	FeedCap       int           `name:"feed-cap" min:"0" max:"1000000000" default:"1000000" placeholder:"N" help:"how many entries of the feed are kept, the newest; 0 is no limit"`
	FeedDelivered bool          `name:"feed-delivered" default:"false" help:"also keep an entry for each delivery that succeeds; webhook-types with delivered implies it"`
	WebhookURL    string        `name:"webhook-url" type:"webhook-url" placeholder:"URL" help:"where to POST the entries of the feed; may name a private address"`
	WebhookSecret Secret        `name:"webhook-secret" type:"webhook-secret" placeholder:"SECRET|@FILE" help:"signs these calls as Standard Webhooks: whsec_ and 24 to 64 bytes in base64"`
	WebhookTypes  []string      `name:"webhook-types" type:"entries" default:"dead,host_state,activity_done" placeholder:"TYPES" help:"which entries: dead, host_state, activity_done, delivered, action"`

	AllowPrivateAddresses []netip.Prefix `group:"Requests to inboxes" name:"allow-private-addresses" placeholder:"CIDR" help:"private or special addresses that the node may connect to"`
	DenyAddresses         []netip.Prefix `name:"deny-addresses" placeholder:"CIDR" help:"public addresses that the node must not connect to, such as your own NAT64 prefix"`
	AllowHTTP             bool           `name:"allow-http" default:"false" help:"accept http:// inboxes"`
	CAFile                string         `name:"ca-file" type:"ca-file" shown:"system roots" placeholder:"FILE" help:"extra root certificates (PEM) for inboxes"`
	UserAgent             string         `name:"user-agent" type:"user-agent" shown:"Postrider/VERSION" placeholder:"TEXT" help:"User-Agent that inboxes see; add your instance's URL: (+https://your.host/)"`
	Signing               string         `name:"signing" type:"choice" choices:"auto go openssl" default:"auto" placeholder:"NAME" help:"RSA back-end: auto, go or openssl"`

	LogLevel        slog.Level    `group:"Process" name:"log-level" choices:"debug info warn error" default:"info" placeholder:"LEVEL" help:"debug, info, warn or error"`
	LogFormat       string        `name:"log-format" type:"choice" choices:"auto text json" default:"auto" placeholder:"NAME" help:"text, json, or auto: text on a terminal, else json"`
	ShutdownTimeout time.Duration `name:"shutdown-timeout" default:"25s" placeholder:"TIME" help:"how long a stopping node lets attempts in flight finish"`
}

// Place describes the store to migrate to: the settings that only migrate has.
type Place struct {
	Store      Store    `name:"to" variable:"" placeholder:"STORE" help:"the store to move to, as in store"`
	Prefix     string   `name:"to-redis-prefix" variable:"" type:"prefix" shown:"redis-prefix" placeholder:"TEXT" help:"redis-prefix of the store to move to"`
	Partitions int      `name:"to-redis-partitions" variable:"" min:"1" max:"16384" shown:"1, on a cluster 64" placeholder:"N" help:"redis-partitions of the store to move to"`
	MasterKey  []Secret `name:"to-master-key" variable:"" type:"master-key" shown:"master-key" placeholder:"BASE64|@FILE" help:"master-key of the store to move to"`
}

// fillDefaults sets the settings whose default depends on another one.
func (c *Config) fillDefaults() {
	c.RedisPartitions = cmp.Or(c.RedisPartitions, c.Store.partitions())
	c.To.Partitions = cmp.Or(c.To.Partitions, c.To.Store.partitions())
	c.To.Prefix = cmp.Or(c.To.Prefix, c.RedisPrefix)
	if len(c.To.MasterKey) == 0 {
		c.To.MasterKey = c.MasterKey
	}
	c.UserAgent = cmp.Or(c.UserAgent, "Postrider/"+BuildVersion())
	c.FeedDelivered = c.FeedDelivered || c.WebhookURL != "" && slices.Contains(c.WebhookTypes, "delivered")
	// A maximum that is set below the default of its part shortens the part, too.
	c.ConnectTimeout = min(c.ConnectTimeout, c.AttemptTimeout)
	c.BreakerCoolOff = min(c.BreakerCoolOff, c.BreakerCoolOffMax)
}

// linked is a version given to the linker (-X), by builds whose version Go does not know, such as the image's.
var linked string

// BuildVersion returns the version of this build, or "devel" if it has none. It is a token in the sense of RFC 9110.
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
