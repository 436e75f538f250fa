package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testredis"
)

// benchCommand returns the bench command as a process whose temporary files are in a folder of the test.
func benchCommand(t *testing.T, args ...string) (cmd *exec.Cmd, temporary string) {
	t.Helper()
	temporary = t.TempDir()
	cmd = harness.Command(t.Context(), t, []string{"TMPDIR=" + temporary}, append([]string{"bench", "--tiny"}, args...)...)
	return cmd, temporary
}

// wantNothingLeft checks that no file is left, nor a process that was started with the folder.
func wantNothingLeft(t *testing.T, temporary string) {
	t.Helper()
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	harness.Eventually(t, "all processes end", func() bool { return len(processesOf(t, temporary)) == 0 })
}

// processesOf returns the processes that have temporary in their environment, as far as the system shows them.
func processesOf(t *testing.T, temporary string) (pids []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		environ, err := os.ReadFile(file)
		if err == nil && bytes.Contains(environ, []byte("TMPDIR="+temporary+"\x00")) {
			pids = append(pids, filepath.Base(filepath.Dir(file)))
		}
	}
	return pids
}

// report is the part of a measurement that the tests check.
type report struct {
	Machine   struct{ CPU, Go, Signing, Store string }
	Scenarios []struct {
		Name    string
		Figures map[string]float64
	}
}

func measure(t *testing.T, args ...string) (r report) {
	t.Helper()
	cmd, temporary := benchCommand(t, append(args, "--json")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s%s", err, out, &stderr)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	wantNothingLeft(t, temporary)
	return r
}

// wantFigures checks that a scenario has plausible figures, whatever their size.
func (r report) wantFigures(t *testing.T, scenario string, names ...string) {
	t.Helper()
	for _, s := range r.Scenarios {
		if s.Name != scenario {
			continue
		}
		for _, name := range names {
			if s.Figures[name] <= 0 {
				t.Errorf("%s: %s is %v", scenario, name, s.Figures[name])
			}
		}
		return
	}
	t.Errorf("%s was not measured", scenario)
}

func TestBench(t *testing.T) {
	t.Parallel()
	plot := filepath.Join(t.TempDir(), "plot.svg")
	r := measure(t, "--plot", plot)
	each := []string{"deliveries", "deliveries_per_second", "node_cpu_ms", "p99_ms", "peak_mib", "connections"}
	bare := append([]string{"cpu_ratio", "bare_go_cpu_ms", "bare_openssl_cpu_ms", "bare_connections"}, each...)
	compared := append([]string{"throughput_ratio", "cpu_ratio_to_base"}, each...)
	for scenario, names := range map[string][]string{
		"keepalive": bare, "connections": bare, "tls": bare, "slow": compared, "dead": compared,
		"backlog": append([]string{"claim_us_at_1000", "claim_us_at_2000", "claim_ratio"}, compared...),
		"world":   {"deliveries", "node_cpu_ms", "cpu_ratio", "handshakes_per_delivery", "bare_handshakes_per_delivery", "p50_ms", "p99_ms", "bare_p50_ms", "bare_p99_ms"},
		"fanout":  {"to_202_ms", "bare_insert_ms", "insert_ratio"},
		"intake":  {"accepted_per_second", "bare_inserts_per_second", "intake_ratio", "bare_calls_per_second", "bare_intake_ratio", "node_cpu_ms", "callers_cpu_ms"},
		"idle":    {"peak_mib"},
	} {
		r.wantFigures(t, scenario, names...)
	}
	if r.Machine.Go == "" || r.Machine.CPU == "" || !strings.HasPrefix(r.Machine.Signing, "openssl") || r.Machine.Store != "embedded (SQLite)" {
		t.Errorf("machine: %+v", r.Machine)
	}
	if drawn, err := os.ReadFile(plot); err != nil || !bytes.HasPrefix(drawn, []byte("<svg")) {
		t.Errorf("plot: %.60s, %v", drawn, err)
	}
}

func TestBenchOnRedis(t *testing.T) {
	t.Parallel()
	server := testredis.Start(t)
	server.Must("SET", "somebody's", "key")
	r := measure(t, "--scenarios", "keepalive,fanout,intake", "--store", server.URL(), "--nodes", "2")
	r.wantFigures(t, "keepalive", "deliveries", "cpu_ratio", "store_cpu_ms", "store_scripts", "store_paced_scripts", "store_bytes_in", "store_bytes_out")
	r.wantFigures(t, "fanout", "to_202_ms", "bare_insert_ms")
	r.wantFigures(t, "intake", "accepted_per_second", "bare_inserts_per_second", "bare_calls_per_second")
	if !strings.HasPrefix(r.Machine.Store, "Redis ") && !strings.HasPrefix(r.Machine.Store, "Valkey ") {
		t.Errorf("store: %s", r.Machine.Store)
	}
	if left := server.Must("KEYS", "*"); left != "somebody's" {
		t.Errorf("keys left: %s", left)
	}
}

// TestBenchIsInterrupted checks that Ctrl-C ends a measurement cleanly, whichever of its processes get the signal.
func TestBenchIsInterrupted(t *testing.T) {
	t.Parallel()
	cmd, temporary := benchCommand(t, "--scenarios", "keepalive", "--runs", "100")
	var out harness.Output
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "a node runs", func() bool {
		found, err := filepath.Glob(temporary + "/*/store-*/postrider.db")
		return err == nil && len(found) > 0
	})
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, &out)
	}
	wantNothingLeft(t, temporary)
}

// TestBenchIsKilled checks that no process outlives the measurement that started it.
func TestBenchIsKilled(t *testing.T) {
	t.Parallel()
	cmd, temporary := benchCommand(t, "--scenarios", "keepalive", "--runs", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "sink and node run", func() bool { return len(processesOf(t, temporary)) >= 3 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	harness.Eventually(t, "all processes end", func() bool { return len(processesOf(t, temporary)) == 0 })
}

func TestBenchBadScenario(t *testing.T) {
	t.Parallel()
	code, _, stderr := harness.RunOnce(t, nil, "bench", "--scenarios", "keepalive,warp")
	if code != 2 || !strings.Contains(stderr, "scenarios") || !strings.Contains(stderr, "keepalive,connections,") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}
