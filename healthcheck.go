package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

const (
	healthPatience = 7 * time.Second // more than a node gives its store (5 s), less than a container gives the check
	healthAnswer   = 4 << 10         // bytes of an answer that are shown
)

// checkHealth asks the node that listens on this machine, at the address of its settings, whether it can work, and writes
// the answer to w. It returns an error if the node can't, or if there is no answer in time.
func checkHealth(ctx context.Context, listen string, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, healthPatience)
	defer cancel()
	url := "http://" + dialable(listen) + "/readyz"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil) //nolint:gosec // the address is the operator's own
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // and no proxy: the node is near
	resp, err := client.Do(req)                                                //nolint:gosec // likewise
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, healthAnswer))
	if err != nil {
		return fmt.Errorf("healthcheck: %s: %w", url, err)
	}
	if _, err := fmt.Fprintln(w, strings.TrimSpace(string(answer))); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("healthcheck: %s: %s", url, resp.Status)
	}
	return nil
}

// dialable returns an address to dial for one to listen on. Every address of IPv6 is every address of IPv4 too, except
// where it isn't; localhost has both.
func dialable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen // dialling it tells what is wrong
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
