package redisq

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

const (
	// keepAlive is how often an idle connection is looked at. The library's own second would cost an idle node several
	// commands a second.
	keepAlive   = 10 * time.Second
	dialTimeout = 5 * time.Second

	// A connection keeps two buffers and a ring of calls under way, whether it is busy or not. The library's own sizes, 512 KiB
	// and 1,024 calls, cost 1.4 MB each and make nothing faster. Calls beyond the ring wait.
	connBuffer = 32 << 10
	connRing   = 8 // as a power of two
)

var (
	errScheme   = errors.New("want redis://, rediss://, redis+unix://, redis+cluster:// or redis+sentinel://")
	errEscape   = errors.New("user or password is badly escaped")
	errDatabase = errors.New("want a database number")
	errSocket   = errors.New("want redis+unix:///PATH: the path of a socket")
	errQuery    = errors.New("want nothing after a question mark but tls=true, for sentinels also sentinel_username and " +
		"sentinel_password, and for a socket only db")
)

// address is a store's URL taken apart. It isn't read with url.Parse, which takes no list of hosts and repeats passwords
// in its errors.
type address struct {
	scheme, user, password, path string
	hosts                        []string
	tls                          bool

	sentinelUser, sentinelPassword string // for the sentinels themselves
}

// parseURL returns how to connect to the store at a URL. Where that is by TLS, secure is asked for the settings of each
// connection; nil leaves them as they are by default.
func parseURL(raw string, secure func() *tls.Config) (rueidis.ClientOption, error) {
	a, err := parseAddress(raw)
	if err != nil {
		return rueidis.ClientOption{}, err
	}
	o := rueidis.ClientOption{
		InitAddress: a.hosts, Username: a.user, Password: a.password,
		ClientName: "postrider", DisableCache: true, PipelineMultiplex: 1,
		ReadBufferEachConn: connBuffer, WriteBufferEachConn: connBuffer, RingScaleEachConn: connRing,
		Dialer: net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive},
	}
	if a.tls {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		if len(a.hosts) == 1 {
			o.TLSConfig.ServerName, _, _ = net.SplitHostPort(a.hosts[0]) // it was joined above
		}
		if secure != nil {
			o.DialCtxFn = dialTLS(secure)
		}
	}
	switch a.scheme {
	case "redis", "rediss":
		o.ForceSingleClient = true
		o.SelectDB, err = database(a.path)
	case "redis+unix":
		o.ForceSingleClient = true
		o.DialCtxFn = dialSocket
		o.SelectDB, err = database(a.path)
	case "redis+cluster":
		o.ShuffleInit = true
	case "redis+sentinel":
		var db string
		o.Sentinel.MasterSet, db, _ = strings.Cut(a.path, "/")
		o.Sentinel.Dialer = o.Dialer
		o.Sentinel.TLSConfig = o.TLSConfig
		o.Sentinel.Username = a.sentinelUser
		o.Sentinel.Password = a.sentinelPassword
		o.SelectDB, err = database(db)
	}
	return o, err
}

// dialTLS returns a function that makes a TLS connection with the settings of that moment.
func dialTLS(secure func() *tls.Config) func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
	return func(ctx context.Context, addr string, d *net.Dialer, base *tls.Config) (net.Conn, error) {
		config := secure().Clone()
		config.MinVersion = base.MinVersion
		config.ServerName = base.ServerName
		return (&tls.Dialer{NetDialer: d, Config: config}).DialContext(ctx, "tcp", addr)
	}
}

func dialSocket(ctx context.Context, path string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
	return d.DialContext(ctx, "unix", path)
}

func database(text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, errDatabase
	}
	return int(n), nil
}

func parseAddress(raw string) (a address, err error) {
	scheme, rest, _ := strings.Cut(raw, "://")
	rest, query, _ := strings.Cut(rest, "?")
	rest, a.path, _ = strings.Cut(rest, "/")
	credentials, hosts, found := strings.Cut(rest, "@")
	if !found {
		credentials = ""
		hosts = rest
	}
	port := "6379"
	switch a.scheme = scheme; scheme {
	case "redis", "redis+cluster", "redis+unix":
	case "rediss":
		a.tls = true
	case "redis+sentinel":
		port = "26379"
	default:
		return a, errScheme
	}
	user, password, _ := strings.Cut(credentials, ":")
	var errs [2]error
	a.user, errs[0] = url.PathUnescape(user)
	a.password, errs[1] = url.PathUnescape(password)
	if errs[0] != nil || errs[1] != nil {
		return a, errEscape // not the errors themselves, they hold what is secret
	}
	if scheme == "redis+unix" {
		err = a.takeSocket(hosts)
	} else {
		a.hosts, err = withPorts(strings.Split(hosts, ","), port)
	}
	return a, errors.Join(err, a.takeQuery(query))
}

// takeSocket makes the path that of a socket. There is no host before it.
func (a *address) takeSocket(hosts string) error {
	path, err := url.PathUnescape(a.path)
	if err != nil || path == "" || hosts != "" {
		return errSocket
	}
	a.hosts = []string{"/" + path}
	a.path = ""
	return nil
}

// takeQuery reads what stands after the question mark.
func (a *address) takeQuery(query string) error {
	values, err := url.ParseQuery(strings.ReplaceAll(query, "+", "%2B")) // in base64 it is no blank
	if err != nil {
		return errQuery // not the error itself, it holds what may be secret
	}
	sentinel := a.scheme == "redis+sentinel"
	socket := a.scheme == "redis+unix"
	for name, all := range values {
		switch value := all[0]; {
		case len(all) > 1:
			return errQuery
		case name == "tls" && value == "true" && !socket:
			a.tls = true
		case name == "tls" && value == "false":
		case name == "sentinel_username" && sentinel:
			a.sentinelUser = value
		case name == "sentinel_password" && sentinel:
			a.sentinelPassword = value
		case name == "db" && socket:
			a.path = value
		default:
			return errQuery
		}
	}
	return nil
}

func withPorts(hosts []string, port string) ([]string, error) {
	for i, host := range hosts {
		if _, _, err := net.SplitHostPort(host); err == nil {
			continue
		}
		hosts[i] = net.JoinHostPort(strings.Trim(host, "[]"), port)
		if _, _, err := net.SplitHostPort(hosts[i]); err != nil || host == "" {
			return nil, fmt.Errorf("want HOST or HOST:PORT, not %q", host)
		}
	}
	return hosts, nil
}
