package redisq

import (
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
)

var (
	errScheme   = errors.New("want redis://, rediss://, redis+cluster:// or redis+sentinel://")
	errEscape   = errors.New("user or password is badly escaped")
	errDatabase = errors.New("want a database number")
	errQuery    = errors.New("want nothing after a question mark but tls=true")
)

// address is a store's URL taken apart. It isn't read with url.Parse, which takes no list of hosts and repeats passwords
// in its errors.
type address struct {
	scheme, user, password, path string
	hosts                        []string
	tls                          bool
}

// parseURL returns how to connect to the store at a URL.
func parseURL(raw string) (rueidis.ClientOption, error) {
	a, err := parseAddress(raw)
	if err != nil {
		return rueidis.ClientOption{}, err
	}
	o := rueidis.ClientOption{
		InitAddress: a.hosts, Username: a.user, Password: a.password,
		ClientName: "postrider", DisableCache: true, PipelineMultiplex: 1,
		Dialer: net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive},
	}
	if a.tls {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		if len(a.hosts) == 1 {
			o.TLSConfig.ServerName, _, _ = net.SplitHostPort(a.hosts[0]) // it was joined above
		}
	}
	switch a.scheme {
	case "redis", "rediss":
		o.ForceSingleClient = true
		o.SelectDB, err = database(a.path)
	case "redis+cluster":
		o.ShuffleInit = true
	case "redis+sentinel":
		var db string
		o.Sentinel.MasterSet, db, _ = strings.Cut(a.path, "/")
		o.SelectDB, err = database(db)
	}
	return o, err
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
		credentials, hosts = "", rest
	}
	port := "6379"
	switch a.scheme = scheme; scheme {
	case "redis", "redis+cluster":
	case "rediss":
		a.tls = true
	case "redis+sentinel":
		port = "26379"
	default:
		return a, errScheme
	}
	switch query {
	case "", "tls=false":
	case "tls=true":
		a.tls = true
	default:
		return a, errQuery
	}
	user, password, _ := strings.Cut(credentials, ":")
	var errs [2]error
	a.user, errs[0] = url.PathUnescape(user)
	a.password, errs[1] = url.PathUnescape(password)
	if errs[0] != nil || errs[1] != nil {
		return a, errEscape // not the errors themselves, they hold what is secret
	}
	a.hosts, err = withPorts(strings.Split(hosts, ","), port)
	return a, err
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
