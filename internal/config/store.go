package config

import (
	"errors"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

// StoreKind is the kind of store that a node works on.
type StoreKind string

// The kinds of store.
const (
	Embedded   StoreKind = "embedded"   // a folder of this node's own
	Standalone StoreKind = "standalone" // one Redis or Valkey: redis:// or rediss://
	Socket     StoreKind = "socket"     // one by a Unix socket: redis+unix://
	Cluster    StoreKind = "cluster"    // redis+cluster://
	Sentinel   StoreKind = "sentinel"   // redis+sentinel://
)

// Store says where activities and deliveries are kept: in Dir if the kind is Embedded, else at URL, which is as typed
// and may hold a password. Its addresses are well formed; its query was not checked.
type Store struct {
	Kind StoreKind
	Dir  string
	URL  Secret
}

// String returns the store without user, password and query.
func (s Store) String() string {
	if s.Kind == Embedded {
		return "embedded:" + s.Dir
	}
	return redactURL(s.URL.Reveal())
}

// IsRedis reports whether the store is one on Redis, which a fleet may share.
func (s Store) IsRedis() bool { return s.Kind != Embedded && s.Kind != "" }

// usesTLS reports whether the store is reached by TLS.
func (s Store) usesTLS() bool {
	scheme, rest, _ := strings.Cut(s.URL.Reveal(), "://")
	_, query, _ := strings.Cut(rest, "?")
	return scheme == "rediss" || slices.Contains(strings.Split(query, "&"), "tls=true")
}

// partitions returns the default number of partitions.
func (s Store) partitions() int {
	if s.Kind == Cluster {
		return 64
	}
	return 1
}

var (
	errStore = errors.New("want embedded:DIR, redis://HOST:PORT, rediss://HOST:PORT, redis+unix:///PATH, " +
		"redis+cluster://HOST:PORT,… or redis+sentinel://HOST:PORT,…/MASTER")
	errStorePath = errors.New("want nothing but a database number after the address of a Redis, " +
		"nothing after those of a cluster, and the MASTER's name after those of sentinels")

	hostName = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
)

func parseStore(_ *kong.Tag, raw string) (Store, error) {
	if dir, ok := strings.CutPrefix(raw, "embedded:"); ok {
		if dir == "" {
			return Store{}, errStore
		}
		return Store{Kind: Embedded, Dir: dir}, nil
	}
	scheme, rest, _ := strings.Cut(raw, "://")
	kind, ok := map[string]StoreKind{
		"redis": Standalone, "rediss": Standalone, "redis+unix": Socket, "redis+cluster": Cluster, "redis+sentinel": Sentinel,
	}[scheme]
	if !ok {
		return Store{}, errStore
	}
	if err := checkRedisAddress(kind, rest); err != nil {
		return Store{}, err
	}
	return Store{Kind: kind, URL: NewSecret(raw)}, nil
}

// checkRedisAddress checks what follows "://". It does not use url.Parse, which refuses lists of hosts and repeats
// passwords in its errors.
func checkRedisAddress(kind StoreKind, rest string) error {
	rest, _, _ = strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	user, hosts, found := strings.Cut(authority, "@")
	if !found {
		user = ""
		hosts = authority
	}
	if _, err := url.PathUnescape(user); err != nil {
		return errors.New("user or password is badly escaped: want %XX for what a URL can't hold")
	}
	if kind == Socket {
		if hosts != "" || path == "" {
			return errStore
		}
		return nil
	}
	list := strings.Split(hosts, ",")
	if kind == Standalone && len(list) > 1 {
		return errStore
	}
	for _, host := range list {
		if !isHostPort(host) {
			return errStore
		}
	}
	return checkRedisPath(kind, path)
}

func checkRedisPath(kind StoreKind, path string) error {
	switch kind {
	case Standalone:
		if _, err := strconv.ParseUint(path, 10, 16); path != "" && err != nil {
			return errStorePath
		}
	case Cluster:
		if path != "" {
			return errStorePath
		}
	case Sentinel:
		if master, _, _ := strings.Cut(path, "/"); master == "" {
			return errStorePath
		}
	}
	return nil
}

// isHostPort reports whether s is a name or an address, in brackets if it is of IPv6, with or without a port.
func isHostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port, err = net.SplitHostPort(s + ":1")
	}
	return err == nil && port != "0" && isPort(port) && isHost(host)
}

func isHost(host string) bool {
	_, err := parseAddr(host)
	return err == nil || hostName.MatchString(host)
}

func isPort(port string) bool {
	_, err := strconv.ParseUint(port, 10, 16)
	return err == nil
}

// redactURL hides all parts of a URL that may be secret, even if it is malformed.
func redactURL(raw string) string {
	scheme, rest, found := strings.Cut(raw, "://")
	at := strings.LastIndex(rest, "@")
	query := strings.Index(rest, "?")
	switch {
	case !found && !strings.Contains(raw, "@"):
		return raw
	case !found, query >= 0 && query < at, at < 0 && strings.HasPrefix(rest, ":"):
		return redacted // any part may be a password
	case query >= 0:
		rest = rest[:query] + "?…"
	}
	return scheme + "://" + rest[max(at, 0):]
}
