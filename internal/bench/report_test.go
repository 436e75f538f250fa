package bench

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/config"
)

func sample() *Report {
	return &Report{
		Machine: Machine{CPU: "A <fast> & good CPU", Cores: 2, OS: "linux/amd64", Go: "go1.26", Version: "v1", Signing: "go", Store: "Redis 7"},
		Runs:    1,
		Scenarios: []Result{
			{Name: "keepalive", Figures: figures{
				"deliveries": 2000, "deliveries_per_second": 1234.4, "node_cpu_ms": 0.5, "store_cpu_ms": 0.1,
				"bare_go_cpu_ms": 0.95, "bare_openssl_cpu_ms": 0.4, "cpu_ratio": 1.5, "p50_ms": 1, "p99_ms": 9, "peak_mib": 60,
			}},
			{Name: "backlog", Figures: figures{
				"claim_us_at_1000": 3, "claim_us_at_1000000": 4, "claim_us_at_20000": 5, "throughput_ratio": 0.97, "base_per_second": 900,
				"cpu_ratio_to_base": 1.01,
			}},
			{Name: "world", Figures: figures{
				"handshakes_per_delivery": 0.2, "resumed_percent": 60, "bare_handshakes_per_delivery": 0.5, "bare_resumed_percent": 0, "bare_lost": 2,
			}},
			{Name: "fanout", Figures: figures{"to_202_ms": 30, "inboxes": 20000, "bare_insert_ms": 15, "insert_ratio": 2}},
			{Name: "idle", Figures: figures{"peak_mib": 30, "cpu_percent": 0.1}},
		},
	}
}

func TestTables(t *testing.T) {
	var out strings.Builder
	if err := sample().write(&out, config.BenchCall{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"A <fast> & good CPU, 2 cores, linux/amd64\npostrider v1, go1.26, signing go, store Redis 7\n",
		"scenario  deliveries    /s   node  store  bare go  bare openssl  ratio  p50 ms  p99 ms  peak MiB\n",
		"keepalive        2000  1234  0.500  0.100    0.950         0.400   1.50     1.0     9.0        60\n",
		"idle           –     –      –      –        –             –      –       –       –        30\n",
		"backlog: 0.97 of the throughput of an empty store (900/s), at 1.01 of its CPU\n",
		"with 1000 pending\nbacklog: a claim takes 5.0 µs of each delivery with 20000 pending\nbacklog: a claim takes 4.0 µs",
		"world: 0.200 connections for each delivery, 60 % of them with an earlier TLS session\n",
		"world: 0.500 connections and 0 % by a bare loop with Go's defaults, which lost 2 deliveries\n",
		"fanout: 30 ms to the 202 for 20000 inboxes, 2.00 times that of bare rows (15 ms)\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

func TestJSONAndPlotFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "plot.svg")
	var out strings.Builder
	if err := sample().write(&out, config.BenchCall{JSON: true, Plot: file}); err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(), &got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if drawn, err := os.ReadFile(file); err != nil || string(drawn) != sample().plot() {
		t.Errorf("drawn: %.60s, %v", drawn, err)
	}
}

func TestPlot(t *testing.T) {
	svg := sample().plot()
	var widths []string
	var words []string
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		switch token := token.(type) {
		case xml.StartElement:
			for _, a := range token.Attr {
				if token.Name.Local == "rect" && a.Name.Local == "width" {
					widths = append(widths, a.Value)
				}
			}
		case xml.CharData:
			words = append(words, string(token))
		}
	}
	// The longest bar takes all the room, the others as much of it as they are worth.
	if diff := cmp.Diff([]string{"100%", "252.6", "50.5", "480.0", "202.1"}, widths); diff != "" {
		t.Errorf("widths (-want +got)\n%s", diff)
	}
	for _, want := range []string{"keepalive", "0.600", "bare loop, go", "0.950", "bare loop, openssl", "0.400"} {
		if !strings.Contains(strings.Join(words, "|"), "|"+want+"|") {
			t.Errorf("no %q in %q", want, words)
		}
	}
	(&Report{}).plot() // an empty plot must not panic
}

func TestScenariosAreThoseOfTheCommandLine(t *testing.T) {
	known := scenarios()
	for _, name := range config.BenchScenarios() {
		if known[name] == nil {
			t.Errorf("%s can be asked for and is none", name)
		}
		delete(known, name)
	}
	for name := range known {
		t.Errorf("%s can't be asked for", name)
	}
}
