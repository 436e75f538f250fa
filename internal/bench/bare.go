package bench

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/signer"
)

// bareSpec says what a bare loop posts.
type bareSpec struct {
	Backend string // of signer.OpenRSA
	Key     []byte // in PKCS#8 form
	Body    []byte
	Inboxes []string
	Times   int // the number of requests to each inbox
	Workers int // at once; each has its own inboxes
	CA      []byte
	// Every makes the loop post to farTogether inboxes at a time, so often, with Go's default transport; 0 is as fast as it can.
	Every time.Duration
}

// bareResult is the measurement of a bare loop.
type bareResult struct {
	Posted      int
	Connections int64
	Latencies   []float64 // with Every: from the time to post until the answer, in milliseconds
	Lost        int       // with Every: posts without a 202
	Took        time.Duration
	Usage       usage
}

// bare is the minimum of a Go program that delivers: it signs and posts, and keeps no state.
type bare struct {
	spec        bareSpec
	key         signer.RSASigner
	digest      string
	client      *http.Client
	connections atomic.Int64
}

// bareRole is the role of a bare loop.
type bareRole struct{}

func (bareRole) commands() commands {
	return commands{"start": command(func(ctx context.Context, spec bareSpec) (any, error) {
		b, err := newBare(spec)
		if err != nil {
			return nil, err
		}
		if spec.Every > 0 {
			return b.runOnTime(ctx)
		}
		return b.run(ctx)
	})}
}

func newBare(spec bareSpec) (*bare, error) {
	backend, _, err := signer.OpenRSA(spec.Backend)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(spec.Key)
	if err != nil {
		return nil, err
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("no RSA key")
	}
	sum := sha256.Sum256(spec.Body)
	b := &bare{spec: spec, digest: "SHA-256=" + base64.StdEncoding.EncodeToString(sum[:])}
	b.key, err = backend.Load(private)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(spec.CA) // empty without TLS
	b.client = &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: b.dial, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true, MaxIdleConns: 512, MaxIdleConnsPerHost: 8,
	}}
	if spec.Every > 0 {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		b.client.Transport = transport
	}
	return b, err
}

func (b *bare) dial(ctx context.Context, network, address string) (net.Conn, error) {
	b.connections.Add(1)
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// run posts everything, and measures it.
func (b *bare) run(ctx context.Context) (bareResult, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	before := ownUsage()
	began := time.Now()
	var workers sync.WaitGroup
	for w := range b.spec.Workers {
		workers.Go(func() {
			if err := b.work(ctx, w); err != nil {
				cancel(err)
			}
		})
	}
	workers.Wait()
	r := bareResult{
		Posted: b.spec.Times * len(b.spec.Inboxes), Took: time.Since(began), Usage: ownUsage(), Connections: b.connections.Load(),
	}
	r.Usage.CPU -= before.CPU
	return r, context.Cause(ctx)
}

// runOnTime posts everything at the rate that the loop was given, and measures it. A loop without state loses what fails.
func (b *bare) runOnTime(ctx context.Context) (bareResult, error) {
	latencies := make([]float64, len(b.spec.Inboxes))
	before := ownUsage()
	began := time.Now()
	err := onTime(ctx, len(latencies)/farTogether, b.spec.Every, func(ctx context.Context, i int) error {
		began := time.Now()
		var together sync.WaitGroup
		for j := i * farTogether; j < (i+1)*farTogether; j++ {
			together.Go(func() {
				if b.post(ctx, b.spec.Inboxes[j]) == nil {
					latencies[j] = millis(time.Since(began))
				}
			})
		}
		together.Wait()
		return ctx.Err()
	})
	r := bareResult{Took: time.Since(began), Usage: ownUsage()}
	r.Usage.CPU -= before.CPU
	for _, ms := range latencies {
		if ms == 0 {
			r.Lost++
			continue
		}
		r.Posted++
		r.Latencies = append(r.Latencies, ms)
	}
	return r, err
}

// work makes all requests to the inboxes of one worker.
func (b *bare) work(ctx context.Context, w int) error {
	for range b.spec.Times {
		for i := w; i < len(b.spec.Inboxes); i += b.spec.Workers {
			if err := b.post(ctx, b.spec.Inboxes[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bare) post(ctx context.Context, inbox string) error {
	u, err := url.Parse(inbox)
	if err != nil {
		return err
	}
	const contentType = "application/activity+json"
	date := time.Now().UTC().Format(http.TimeFormat)
	signature, err := b.key.SignPKCS1v15SHA256(sha256.Sum256([]byte("(request-target): post " + u.RequestURI() + "\nhost: " + u.Host +
		"\ndate: " + date + "\ndigest: " + b.digest + "\ncontent-type: " + contentType)))
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, inbox, bytes.NewReader(b.spec.Body))
	if err != nil {
		return err
	}
	req.Header.Set("Date", date)
	req.Header.Set("Digest", b.digest)
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Signature", `keyId="`+keyID+`",algorithm="rsa-sha256",headers="(request-target) host date digest content-type",signature="`+
		base64.StdEncoding.EncodeToString(signature)+`"`)
	resp, err := b.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("post to %s: %s", inbox, resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
