//go:build linux

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"imapgate/cmd/imapload/internal/load"
)

const (
	startTimeout = 30 * time.Second       // until a process listens
	startRest    = 700 * time.Millisecond // from then until it is measured
	loadTimeout  = 10 * time.Minute       // of one measurement
)

// instance is a running target with its backend.
type instance struct {
	run       *run
	target    target
	setup     setup
	dir       string
	program   string // of the target
	conf      string // its configuration
	address   string // where clients connect
	backend   *process
	processes []*process // the target's
}

// start starts a target and its backend.
func (r *run) start(ctx context.Context, t target, s setup) (started *instance, err error) {
	dir, err := os.MkdirTemp(r.layout.dir, t.name+"-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // servers that give up root have to get in
		return nil, err
	}
	in := &instance{run: r, target: t, setup: s, dir: dir}
	defer func() {
		if err != nil {
			in.stop()
		}
	}()
	if err := in.startBackend(ctx); err != nil {
		return nil, fmt.Errorf("backend: %w", err)
	}
	if t.name != limit {
		if err := in.startProxy(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
	}
	if !r.Quick {
		err = pause(ctx, startRest)
	}
	return in, err
}

func (in *instance) startBackend(ctx context.Context) error {
	l := in.run.layout
	args := append(l.self("backend"), "backend", "--control", l.control,
		"--listen", strings.Join(l.backends(l.backendPort), ","), "--tls-listen", strings.Join(l.backends(l.backendTLSPort), ","),
		"--cert", l.cert, "--key", l.key, "--delay", in.setup.delay.String())
	cpus := in.run.loadCPUs(in.setup)
	if in.target.name == limit {
		cpus = in.run.targetCPUs(in.setup)
		in.address = l.backends(l.backendTLSPort)[0]
	}
	var err error
	if in.backend, err = startProcess(cpus, filepath.Join(in.dir, "backend.log"), args...); err != nil {
		return err
	}
	for _, address := range append(l.backends(l.backendPort), l.backends(l.backendTLSPort)...) {
		if err := in.backend.await(ctx, address); err != nil {
			return err
		}
	}
	return nil
}

func (in *instance) startProxy(ctx context.Context) error {
	l := in.run.layout
	p, err := l.parameters(in.dir, in.setup)
	if err != nil {
		return err
	}
	p.BigBuffers = in.target.bigBuffers
	in.address = p.Listen
	if in.setup.rows > 0 {
		p.Table = filepath.Join(in.dir, "users.map")
		if err := writeTable(p.Table, in.setup.rows); err != nil {
			return err
		}
	}
	for _, dir := range []string{"run", "state", "home"} {
		if err := os.Mkdir(filepath.Join(in.dir, dir), 0o755); err != nil { //nolint:gosec // see layout.dir
			return err
		}
	}
	if in.conf, err = p.write(in.target.template); err != nil {
		return err
	}
	if in.program, err = in.target.find(); err != nil {
		return err
	}
	cpus := in.run.targetCPUs(in.setup)
	start := func(log, address string, argv ...string) error {
		started, err := startProcess(cpus, filepath.Join(in.dir, log), argv...)
		if err != nil {
			return err
		}
		in.processes = append(in.processes, started)
		return started.await(ctx, address)
	}
	if in.target.authHTTP {
		args := append(l.self("authhttp"), "authhttp", "--listen", l.authHTTP, "--backends", strings.Join(p.Backends, ","))
		if err := start("authhttp.log", l.authHTTP, args...); err != nil {
			return fmt.Errorf("auth_http: %w", err)
		}
	}
	return start("target.log", p.Listen, append([]string{in.program}, in.target.arguments(p, in.conf)...)...)
}

// await waits until a process listens.
func (p *process) await(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		if p.ended() {
			return fmt.Errorf("has ended: %s", p.tail())
		}
		if pauseErr := pause(ctx, 50*time.Millisecond); pauseErr != nil {
			return fmt.Errorf("does not listen: %w: %s", err, p.tail())
		}
	}
}

// stop ends the target and the backend, and removes their files.
func (in *instance) stop() {
	for _, p := range slices.Backward(in.processes) {
		p.stop()
	}
	if in.backend != nil {
		in.backend.stop()
	}
	_ = os.RemoveAll(in.dir)
}

// load runs one measurement.
func (in *instance) load(ctx context.Context, t test, more ...string) (*load.Result, error) {
	args := append(in.run.layout.self("load"), t.kind, "--address", in.address, "--source", sources)
	if in.setup.rows > 0 {
		args = append(args, "--users", strconv.Itoa(in.setup.rows))
	}
	targetPIDs := pids(in.processes...)
	if in.target.name == limit {
		targetPIDs = pids(in.backend)
	} else {
		args = append(args, "--backend-pid", pids(in.backend))
	}
	args = append(append(append(args, "--target-pid", targetPIDs), t.flags...), more...)
	if t.kind == "wake" {
		args = append(args, "--control", in.run.layout.control)
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	out, err := in.run.output(ctx, in.run.loadCPUs(in.setup), args...)
	if err != nil {
		if tail := in.tail(); tail != "" {
			err = fmt.Errorf("%w; its log: %s", err, tail)
		}
		return nil, err
	}
	var result load.Result
	if err := json.Unmarshal(out, &result); err != nil {
		return nil, fmt.Errorf("%s: %w: %q", t.kind, err, out)
	}
	return &result, nil
}

// tail returns the end of the target's log.
func (in *instance) tail() string {
	if len(in.processes) == 0 {
		return ""
	}
	return in.processes[len(in.processes)-1].tail()
}

// output runs a command on some CPUs, until ctx ends, and returns what it writes.
func (r *run) output(ctx context.Context, cpus []int, argv ...string) ([]byte, error) {
	var out, problems bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // our own
	cmd.Stdout, cmd.Stderr = &out, &problems
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTimeout
	if err := startPinned(cmd, cpus); err != nil {
		return nil, err
	}
	err := cmd.Wait()
	if ctxErr := ctx.Err(); ctxErr != nil {
		return nil, ctxErr
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && problems.Len() > 0 {
		return nil, errors.New(strings.TrimSpace(problems.String()))
	}
	return out.Bytes(), err
}

func pids(processes ...*process) string {
	var all []string
	for _, p := range processes {
		all = append(all, strconv.Itoa(p.pid()))
	}
	return strings.Join(all, ",")
}
