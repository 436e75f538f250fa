package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// killAfter is how long a process may take to end.
const killAfter = 10 * time.Second

// process is a part of the measurement in a separate process: this program again, in a role. It reads requests from its
// standard input and ends when that is closed, so it never outlives the process that started it.
type process struct {
	ctx  context.Context
	role string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder
	log  *os.File
}

// request is a request to a role.
type request struct {
	Do   string          `json:"do"`
	Args json.RawMessage `json:"args"`
}

// reply is the answer to a request.
type reply struct {
	Error string          `json:"error,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
}

// start starts a process in a role and sends its first request.
func (b *bench) start(ctx context.Context, role string, first, answer any) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	log, err := os.CreateTemp(b.dir, role+"-*.log")
	if err != nil {
		return nil, err
	}
	args := append(append([]string(nil), b.o.Args...), "--role", role)
	p := &process{ctx: ctx, role: role, log: log, cmd: exec.CommandContext(ctx, self, args...)} //nolint:gosec // ourselves
	p.cmd.Env = b.o.Environ
	p.cmd.Stderr = log
	p.cmd.WaitDelay = killAfter
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	p.cmd.Cancel = p.in.Close
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	p.out = json.NewDecoder(out)
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", role, err), log.Close())
	}
	if err := p.call("start", first, answer); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// call sends a request to the process and reads the reply into answer, unless that is nil.
func (p *process) call(do string, args, answer any) error {
	raw, err := json.Marshal(args)
	if err != nil {
		return err
	}
	var r reply
	if err := json.NewEncoder(p.in).Encode(request{do, raw}); err != nil {
		return p.broken(do, err)
	}
	if err := p.out.Decode(&r); err != nil {
		return p.broken(do, err)
	}
	if r.Error != "" {
		return fmt.Errorf("%s: %s: %s", p.role, do, r.Error)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(r.Value, answer)
}

// broken describes why a process does not answer any more.
func (p *process) broken(do string, err error) error {
	if p.ctx.Err() != nil {
		return p.ctx.Err()
	}
	return fmt.Errorf("%s: %s: %w; the end of its log: %s", p.role, do, err, logTail(p.log.Name()))
}

// logTail returns the end of a log.
func logTail(file string) string {
	text, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// stop ends the process and waits for it.
func (p *process) stop() error {
	err := p.in.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil // the context did it
	}
	late := time.AfterFunc(killAfter, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	if failed := p.cmd.Wait(); failed != nil && p.ctx.Err() == nil {
		err = errors.Join(err, fmt.Errorf("%s: %w; the end of its log: %s", p.role, failed, logTail(p.log.Name())))
	}
	return errors.Join(err, p.log.Close())
}

// usage returns what the process has used so far.
func (p *process) usage() (u usage, err error) {
	return u, p.call("usage", nil, &u)
}

// commands are what a role can do.
type commands map[string]func(ctx context.Context, args json.RawMessage) (any, error)

// command makes a command of a function with typed arguments.
func command[A any](do func(ctx context.Context, args A) (any, error)) func(context.Context, json.RawMessage) (any, error) {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		var args A
		if err := json.Unmarshal(raw, &args); err != nil {
			return nil, err
		}
		return do(ctx, args)
	}
}

// handleRequests answers the requests from in, one after the other, until in or ctx ends.
func handleRequests(ctx context.Context, in io.Reader, out io.Writer, c commands) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	requests := make(chan request)
	go func() { // not waited for: nothing interrupts a read of standard input
		defer cancel()
		for from := json.NewDecoder(in); ; {
			var r request
			if from.Decode(&r) != nil {
				return
			}
			select {
			case requests <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	for to := json.NewEncoder(out); ; {
		select {
		case r := <-requests:
			if err := to.Encode(c.answer(ctx, r)); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// answer answers one request.
func (c commands) answer(ctx context.Context, r request) reply {
	do := c[r.Do]
	if r.Do == "usage" {
		do = func(context.Context, json.RawMessage) (any, error) { return ownUsage(), nil }
	}
	if do == nil {
		return reply{Error: "no such command"}
	}
	value, err := do(ctx, r.Args)
	if err != nil {
		return reply{Error: err.Error()}
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return reply{Error: err.Error()}
	}
	return reply{Value: raw}
}
