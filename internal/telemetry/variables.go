package telemetry

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

// variables reads the OTEL_* variables. An empty one counts as unset.
type variables struct {
	lookup func(name string) (string, bool)
	log    *slog.Logger
}

func (v *variables) get(name string) string {
	value, _ := v.lookup(name)
	return strings.TrimSpace(value)
}

// otlp returns a variable of the exporter: the one for traces, or else the one for all signals.
func (v *variables) otlp(name string) string {
	return cmp.Or(v.get("OTEL_EXPORTER_OTLP_TRACES_"+name), v.get("OTEL_EXPORTER_OTLP_"+name))
}

// ignore logs that a value is not used. Secrets are not logged.
func (v *variables) ignore(name, value, accepted string) {
	v.log.Warn("traces.setting_ignored", "name", name, "value", value, "accepted", accepted)
}

// number returns a whole number from 1 to most.
func (v *variables) number(name string, byDefault, most int) int {
	text := v.get(name)
	if text == "" {
		return byDefault
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		v.ignore(name, text, fmt.Sprintf("a number from 1 to %d", most))
		return byDefault
	}
	return n
}

// tracesWanted reports whether the variables ask for traces: they name an endpoint or the exporter otlp, and do not switch
// it off. The standard's default, an exporter to this machine if nothing is set, is not ours.
func (v *variables) tracesWanted() bool {
	if strings.EqualFold(v.get("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	switch name := v.get("OTEL_TRACES_EXPORTER"); name {
	case "":
		return v.otlp("ENDPOINT") != ""
	case "otlp":
		return true
	case "none":
		return false
	default:
		v.ignore("OTEL_TRACES_EXPORTER", name, "otlp or none")
		return false
	}
}

// exporterSettings say where and how spans are exported.
type exporterSettings struct {
	endpoint *url.URL
	headers  http.Header
	timeout  time.Duration // of a request
	gzip     bool
	tls      *tls.Config // nil is the system's
}

// shown returns the endpoint without what may be a secret.
func (s *exporterSettings) shown() string {
	return (&url.URL{Scheme: s.endpoint.Scheme, Host: s.endpoint.Host, Path: s.endpoint.Path}).String()
}

// exporterSettings reads the variables of the exporter. An error means that there can be none.
func (v *variables) exporterSettings() (*exporterSettings, error) {
	if protocol := v.otlp("PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL=%s is not supported: set http/protobuf, and the collector's port for it, usually 4318", protocol)
	}
	s := &exporterSettings{headers: v.headers(), timeout: v.millis("OTEL_EXPORTER_OTLP_TIMEOUT", 10_000)}
	if v.get("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT") != "" {
		s.timeout = v.millis("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", 10_000)
	}
	switch compression := v.otlp("COMPRESSION"); compression {
	case "", "none":
	case "gzip":
		s.gzip = true
	default:
		v.ignore("OTEL_EXPORTER_OTLP_COMPRESSION", compression, "gzip or none")
	}
	var unusable, untrusted error
	s.endpoint, unusable = v.endpoint()
	s.tls, untrusted = v.tls()
	return s, errors.Join(unusable, untrusted)
}

// endpoint returns the URL to post to.
// SPEC: OTLP exporter, Endpoint URLs: a URL for traces "MUST be used as-is without any modification", but for the path /
// where it has none; the one for all signals is a base URL, and traces go to v1/traces below it.
func (v *variables) endpoint() (*url.URL, error) {
	name, text := "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", v.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	asIs := text != ""
	if !asIs {
		name = "OTEL_EXPORTER_OTLP_ENDPOINT"
		text = cmp.Or(v.get(name), "http://localhost:4318")
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%s is not a URL of the form http://HOST:4318", name) // it may hold a password
	}
	if asIs {
		u.Path = cmp.Or(u.Path, "/")
	} else {
		u.Path = path.Join("/", u.Path, "v1/traces")
	}
	return u, nil
}

// headers returns the headers to send: names and values as in a query, separated by commas.
func (v *variables) headers() http.Header {
	headers := http.Header{}
	for pair := range strings.SplitSeq(v.otlp("HEADERS"), ",") {
		name, text, found := strings.Cut(strings.TrimSpace(pair), "=")
		value, err := url.PathUnescape(strings.TrimSpace(text))
		switch {
		case pair == "":
		case !found || err != nil || strings.TrimSpace(name) == "":
			v.ignore("OTEL_EXPORTER_OTLP_HEADERS", "a header that is not shown", "NAME=VALUE,NAME=VALUE")
		default:
			headers.Set(strings.TrimSpace(name), value)
		}
	}
	return headers
}

// tls returns how to reach the collector by TLS: with roots or a certificate of its own, if there are any.
func (v *variables) tls() (*tls.Config, error) {
	roots := v.otlp("CERTIFICATE")
	certificate, key := v.otlp("CLIENT_CERTIFICATE"), v.otlp("CLIENT_KEY")
	if roots == "" && certificate == "" && key == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if roots != "" {
		pem, err := os.ReadFile(roots)
		if err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CERTIFICATE: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CERTIFICATE: no certificate (PEM) is in %s", roots)
		}
	}
	if certificate != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and _CLIENT_KEY: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
