package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/postrider/postrider/internal/config"
)

// Report is the result of a measurement.
type Report struct {
	Machine   Machine  `json:"machine"`
	Runs      int      `json:"runs"`
	Short     bool     `json:"short"`
	Scenarios []Result `json:"scenarios"`
}

// Result is the measurement of one scenario. Figures are by name: those in _ms are milliseconds (of CPU: for each delivery),
// in _us microseconds, in _mib memory, in _per_second rates, and in _ratio ratios.
type Result struct {
	Name    string    `json:"name"`
	Figures figures   `json:"figures"` // medians of the runs
	Runs    []figures `json:"runs"`
}

// write writes the report in the form that the arguments ask for.
func (r *Report) write(out io.Writer, call config.BenchCall) error {
	if call.Plot != "" {
		if err := os.WriteFile(call.Plot, []byte(r.plot()), 0o644); err != nil { //nolint:gosec // a picture to show around
			return fmt.Errorf("plot: %w", err)
		}
	}
	if !call.JSON {
		return r.writeTables(out)
	}
	to := json.NewEncoder(out)
	to.SetIndent("", "  ")
	return to.Encode(r)
}

// column is a column of the table of deliveries.
type column struct{ title, figure, format string }

func columns() []column {
	return []column{
		{"deliveries", "deliveries", "%.0f"}, {"/s", "deliveries_per_second", "%.0f"}, {"node", "node_cpu_ms", "%.3f"},
		{"store", "store_cpu_ms", "%.3f"}, {"bare go", "bare_go_cpu_ms", "%.3f"}, {"bare openssl", "bare_openssl_cpu_ms", "%.3f"},
		{"ratio", "cpu_ratio", "%.2f"}, {"p50 ms", "p50_ms", "%.1f"}, {"p99 ms", "p99_ms", "%.1f"}, {"peak MiB", "peak_mib", "%.0f"},
	}
}

func (r *Report) writeTables(out io.Writer) error {
	m := r.Machine
	fmt.Fprintf(out, "\n%s, %d cores, %s\npostrider %s, %s, signing %s, store %s\n\n", m.CPU, m.Cores, m.OS, m.Version, m.Go, m.Signing, m.Store)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "scenario\t")
	for _, c := range columns() {
		fmt.Fprint(t, c.title, "\t")
	}
	fmt.Fprintln(t)
	for _, s := range r.Scenarios {
		fmt.Fprint(t, s.Name, "\t")
		for _, c := range columns() {
			fmt.Fprint(t, s.Figures.text(c.figure, c.format), "\t")
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprint(out, "\nnode, store, bare: milliseconds of CPU for each delivery (intake: for each activity). ratio: node and store to the\n"+
		"bare loop that signs alike. p50, p99: from the 202 to the inbox, of single activities.\n\n")
	for _, s := range r.Scenarios {
		for _, line := range s.sentences() {
			fmt.Fprintf(out, "%s: %s\n", s.Name, line)
		}
	}
	return nil
}

func (f figures) text(name, format string) string {
	value, ok := f[name]
	if !ok {
		return "–"
	}
	return fmt.Sprintf(format, value)
}

// sentences returns the figures that the table does not show.
func (s Result) sentences() (lines []string) {
	f := s.Figures
	say := func(figure, format string, names ...string) {
		if _, ok := f[figure]; !ok {
			return
		}
		values := make([]any, len(names))
		for i, name := range names {
			values[i] = f[name]
		}
		lines = append(lines, fmt.Sprintf(format, values...))
	}
	against := map[string]string{
		"slow": "without the delay", "dead": "the healthy hosts alone", "backlog": "an empty store",
	}[s.Name]
	say("throughput_ratio", "%.2f of the throughput of "+against+" (%.0f/s), at %.2f of its CPU", "throughput_ratio", "base_per_second", "cpu_ratio_to_base")
	say("store_scripts", "Redis ran %.2f scripts for each delivery, and %.1f for each of the single ones; it read %.0f bytes and wrote %.0f",
		"store_scripts", "store_paced_scripts", "store_bytes_in", "store_bytes_out")
	say("connections", "%.0f connections", "connections")
	say("handshakes_per_delivery", "%.3f connections for each delivery, %.0f %% of them with an earlier TLS session", "handshakes_per_delivery", "resumed_percent")
	say("bare_handshakes_per_delivery", "%.3f connections and %.0f %% by a bare loop with Go's defaults, which lost %.0f deliveries",
		"bare_handshakes_per_delivery", "bare_resumed_percent", "bare_lost")
	say("bare_p50_ms", "p50 and p99 are until the 2xx; those of the bare loop, from its call on: %.0f and %.0f ms", "bare_p50_ms", "bare_p99_ms")
	say("bare_connections", "%.0f connections by a bare loop", "bare_connections")
	for _, name := range slices.SortedFunc(maps.Keys(f), byLength) {
		if pending, ok := strings.CutPrefix(name, claimOf(0)[:len(claimOf(0))-1]); ok {
			say(name, "a claim takes %.1f µs of each delivery with "+pending+" pending", name)
		}
	}
	say("fill_per_second", "the store was filled with %.0f deliveries/s", "fill_per_second")
	say("to_202_ms", "%.0f ms to the 202 for %.0f inboxes, %.2f times that of bare rows (%.0f ms)", "to_202_ms", "inboxes", "insert_ratio", "bare_insert_ms")
	say("to_lanes_ms", "%.0f ms until the last of them could go out", "to_lanes_ms")
	say("accepted_per_second", "%.0f activities/s accepted, %.2f of bare rows (%.0f/s)", "accepted_per_second", "intake_ratio", "bare_inserts_per_second")
	say("bare_intake_ratio", "%.2f of calls to a bare service that only writes a row for each (%.0f/s)", "bare_intake_ratio", "bare_calls_per_second")
	say("callers_cpu_ms", "%.3f ms of CPU spent by the callers on each, on the same cores", "callers_cpu_ms")
	say("cpu_percent", "%.2f %% of a processor", "cpu_percent")
	return lines
}

// byLength orders names by the numbers that they end in.
func byLength(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}
