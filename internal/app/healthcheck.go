package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/config"
)

const (
	healthTimeout = 7 * time.Second // longer than a node waits for its store (5 s), shorter than a container waits for the check
	maxHealth     = 4 << 10         // bytes of an answer that are shown
)

// checkHealth asks the node that listens on this machine, at the address of its settings, whether it can work, and writes
// the answer to w. It returns an error if the node can't, or if it does not answer in time.
func checkHealth(ctx context.Context, cfg *config.Config, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	scheme := "http"
	transport := &http.Transport{DisableKeepAlives: true} // without a proxy: the node is on this machine
	if cfg.TLSCertFile != "" {
		scheme = "https"
		// The certificate is for the names that clients call the node by, and nothing in this call is secret.
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // for that reason
	}
	url := scheme + "://" + cfg.DialAddress() + "/readyz"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	client := http.Client{Transport: transport}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxHealth))
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
