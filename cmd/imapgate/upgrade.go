package main

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
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"imapgate/cmd/imapgate/internal/admin"
	"imapgate/proxy"
)

const (
	readyTimeout    = 2 * time.Minute  // from the start of the new process until it is ready
	handOverTimeout = 10 * time.Second // from then until it serves; a watchdog waits meanwhile
	orphanDelay     = time.Second      // from its end until what it has started itself is not heard any more
)

// upgradeRequest is somebody's wish to go on as a new process.
type upgradeRequest struct {
	by   string
	done chan<- upgradeResult // nil: nobody waits; else there is room for one
}

type upgradeResult struct {
	upgrade admin.Upgraded
	err     error
}

// successor is the new process of an upgrade, as the old one sees it. It
// implements [route.Successor].
type successor struct {
	cmd   *exec.Cmd
	link  *link
	words *lastWords
	began time.Time

	said    chan message   // Ready, Failed and Serving
	exited  chan struct{}  // closed when the process is gone
	running sync.WaitGroup // what speaks with it

	version string // once it is ready
}

// launched is a new process that is ready, or why there is none.
type launched struct {
	*successor
	err error
}

// launch starts the program again, as this process was started, and waits until it
// is ready. It closes files.
func (a *app) launch(ctx context.Context, names []string, files []*os.File) (*successor, error) {
	s, err := a.start(ctx, names, files)
	for _, f := range files {
		_ = f.Close()
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	m, err := s.await(ctx, func(m message) bool { return m.Ready != nil })
	if err != nil {
		s.kill()
		return nil, err
	}
	s.version = m.Ready.Version
	return s, nil
}

// start starts the new process.
func (a *app) start(ctx context.Context, names []string, files []*os.File) (*successor, error) {
	path, err := executable()
	if err != nil {
		return nil, err
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	value, err := json.Marshal(inheritance{Sockets: names, Keep: a.admin.keep})
	if err != nil {
		return nil, err
	}
	s := &successor{
		link: newLink(ours), words: &lastWords{out: os.Stderr}, began: time.Now(),
		said: make(chan message, 4), exited: make(chan struct{}),
	}
	// Its life is not bound to the context of the request that began it.
	s.cmd = exec.CommandContext(context.WithoutCancel(ctx), path, os.Args[1:]...) //nolint:gosec // this very program
	s.cmd.Args[0] = os.Args[0]
	s.cmd.WaitDelay = orphanDelay
	s.cmd.Env = append(slices.DeleteFunc(os.Environ(), isOurs), upgradeVariable+"="+string(value))
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = os.Stdin, os.Stdout, s.words
	s.cmd.ExtraFiles = append([]*os.File{theirs, os.Stderr}, files...)
	a.log.Info("upgrade: starting a new process", zap.String("path", path))
	if err := s.cmd.Start(); err != nil {
		s.link.close()
		return nil, fmt.Errorf("start the new process: %w", err)
	}
	// Not among what is waited for: the new process is to outlive this one.
	go func() {
		_ = s.cmd.Wait() // its state says how it ended
		close(s.exited)
	}()
	s.running.Go(func() { s.link.run(func(m message) { s.hear(a, m) }) })
	return s, nil
}

// isOurs says whether a variable is for this process alone. See
// sd_watchdog_enabled(3).
func isOurs(variable string) bool {
	return strings.HasPrefix(variable, upgradeVariable+"=") || strings.HasPrefix(variable, "WATCHDOG_PID=")
}

// executable returns the path that this program was started from, which may be
// another file now: where it was started by a link, the link counts.
func executable() (string, error) {
	path := os.Args[0]
	if !strings.Contains(path, "/") {
		found, err := exec.LookPath(path)
		if err != nil { // a name that is none: whoever started it may say anything
			return os.Executable()
		}
		path = found
	}
	return filepath.Abs(path)
}

// socketPair returns two connected sockets, the second as a file for another
// process.
func socketPair() (net.Conn, *os.File, error) {
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "upgrade"), os.NewFile(uintptr(fds[1]), "upgrade")
	conn, err := net.FileConn(ours)
	if err = errors.Join(err, ours.Close()); err != nil {
		_ = theirs.Close()
		return nil, nil, err
	}
	return conn, theirs, nil
}

// descriptors returns copies of all listening sockets, and what the new process is
// to know them by.
func (a *app) descriptors() (names []string, files []*os.File, err error) {
	add := func(name string, l net.Listener) {
		var f *os.File
		if err == nil {
			f, err = duplicate(l)
		}
		if err == nil {
			names, files = append(names, name), append(files, f)
		}
	}
	for id, s := range a.sockets {
		add(id, s.tcp)
	}
	for _, l := range a.admin.listeners {
		add(adminSocketName(l), l.Listener)
	}
	if err != nil {
		for _, f := range files {
			_ = f.Close()
		}
		return nil, nil, fmt.Errorf("hand over a socket: %w", err)
	}
	return names, files, nil
}

// duplicate returns a copy of a socket's descriptor. [net.TCPListener.File] would
// make it, and with it the socket itself, block.
func duplicate(l net.Listener) (*os.File, error) {
	c, ok := l.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("a %T has no descriptor", l)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if err := errors.Join(raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) }), err); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), l.Addr().String()), nil
}

// await waits until the new process says what is wanted. The error says why it
// never will.
func (s *successor) await(ctx context.Context, wanted func(message) bool) (message, error) {
	for {
		select {
		case m := <-s.said:
			switch {
			case m.Failed != "":
				return m, &upgradeError{text: "the new process gave up", lines: m.Failed}
			case wanted(m):
				return m, nil
			}
		case <-s.exited:
			select {
			case m := <-s.said: // its last words
				if m.Failed != "" {
					return m, &upgradeError{text: "the new process gave up", lines: m.Failed}
				}
			default:
			}
			return message{}, &upgradeError{text: fmt.Sprintf("the new process ended before it served (%s)", s.cmd.ProcessState), lines: s.words.String()}
		case <-ctx.Done():
			err := &upgradeError{text: "the new process is not ready in time", lines: s.words.String()}
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				err.text = errStopping.Error()
			}
			return message{}, err
		}
	}
}

// hear is called with what the new process says.
func (s *successor) hear(a *app, m message) {
	switch {
	case m.Ready != nil, m.Failed != "", m.Serving:
		select {
		case s.said <- m:
		default: // it repeats itself
		}
	case m.Answer && m.Granted: // to a login that has given up meanwhile
		s.End(m.Claim.User, m.Claim.Backend)
	case m.Who != nil:
		s.running.Go(func() {
			s.link.send(message{ID: m.ID, Answer: true, Sessions: a.whole().sessionsOf(*m.Who)})
		})
	case m.Kick != nil:
		s.running.Go(func() {
			n, _ := a.whole().Kick(context.Background(), func(i proxy.SessionInfo) bool { return slices.Contains(m.Kick.IDs, i.ID) }, m.Kick.KickOptions)
			s.link.send(message{ID: m.ID, Answer: true, Kicked: n})
		})
	}
}

// Claim implements [route.Successor].
func (s *successor) Claim(ctx context.Context, user, backend string) bool {
	m, err := s.link.ask(ctx, message{Claim: &stay{user, backend}})
	return err == nil && m.Granted
}

// End implements [route.Successor].
func (s *successor) End(user, backend string) { s.link.send(message{End: &stay{user, backend}}) }

// kill ends the new process, and waits until it is gone.
func (s *successor) kill() {
	_ = s.cmd.Process.Kill()
	<-s.exited
	s.link.close()
	s.running.Wait()
}

// chunk is how many residents, say, go into one message.
const chunk = 1000

// handOver makes the new process serve in this one's place, even if ctx has ended: who
// is ready may accept at any moment. After an error this one serves as before.
func (a *app) handOver(ctx context.Context, s *successor) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handOverTimeout)
	defer cancel()
	if err := a.admin.server.Freeze(ctx); err != nil {
		s.kill()
		return err
	}
	state := a.inForce.routing.Table.State()
	s.link.hold()
	var all []message
	for residents := range slices.Chunk(state.HandOver(s), chunk) {
		all = append(all, message{Residents: residents})
	}
	for failures := range slices.Chunk(a.server.FailedLogins(), chunk) {
		all = append(all, message{Failures: failures})
	}
	s.link.release(append(all, message{Take: &estate{
		PID: os.Getpid(), Version: build().Version, Overrides: state.Overrides(),
	}})...)
	if _, err := s.await(ctx, func(m message) bool { return m.Serving }); err != nil {
		state.TakeBack()
		s.kill()
		a.admin.server.Thaw()
		return err
	}
	return nil
}

// upgradeError is why an upgrade has not taken place.
type upgradeError struct {
	text  string
	lines string // of the new process
}

func (e *upgradeError) Error() string {
	if lines := strings.TrimSpace(e.lines); lines != "" {
		return e.text + ":\n" + lines
	}
	return e.text
}

// Unwrap returns the text and the lines one by one, for the API.
func (e *upgradeError) Unwrap() []error {
	errs := []error{errors.New(e.text)}
	for line := range strings.Lines(e.lines) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			errs = append(errs, errors.New(line))
		}
	}
	return errs
}

// lastWords passes on what a process writes, and keeps the end of it. It is safe
// for concurrent use.
type lastWords struct {
	out *os.File

	mu   sync.Mutex
	text []byte
}

const maxLastWords = 4096

// Write implements [io.Writer].
func (w *lastWords) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, p...)
	if extra := len(w.text) - maxLastWords; extra > 0 {
		w.text = w.text[extra:]
		if _, rest, ok := bytes.Cut(w.text, []byte("\n")); ok {
			w.text = rest // from the beginning of a line
		}
	}
	return w.out.Write(p)
}

// String returns the end of what was written.
func (w *lastWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.text)
}
