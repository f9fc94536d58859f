package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"imapgate/cmd/imapgate/internal/admin"
	"imapgate/proxy"
	"imapgate/route"
)

// upgradeVariable tells a process that it takes over from the one that has started
// it. Its value is an inheritance, in JSON.
const upgradeVariable = "IMAPGATE_UPGRADE"

// inheritance says what the descriptors are that a new process finds open.
type inheritance struct {
	Sockets []string `json:"sockets"` // from descriptor firstSocket on
	Keep    bool     `json:"keep"`    // the files of unix sockets are somebody else's to remove
}

// The descriptors of a new process, behind those that every process has.
const (
	linkDescriptor   = 3
	stderrDescriptor = 4 // where the log goes; standard error is read by the old process at first
	firstSocket      = 5
)

// predecessor is the old process that this one takes over from, while that still
// has sessions.
type predecessor struct {
	link *link

	// Set before the old process is told that this one is ready.
	server *proxy.Server
	table  func() *route.Table
	log    *zap.Logger

	taken   chan struct{} // closed with estate
	estate  *estate
	reading sync.WaitGroup

	mu     sync.Mutex
	leases map[stay][]*route.Lease // of its logins and sessions
	count  int
}

// inherit returns what a process finds that takes over from another one: nothing,
// when it was started by somebody else.
func inherit() (*predecessor, *inherited, error) {
	value := os.Getenv(upgradeVariable)
	if value == "" {
		in, err := activated()
		return nil, in, err
	}
	_ = os.Unsetenv(upgradeVariable)
	var is inheritance
	if err := json.Unmarshal([]byte(value), &is); err != nil {
		return nil, nil, usageError("%s is not for people: %w", upgradeVariable, err)
	}
	unix.CloseOnExec(stderrDescriptor)
	f := os.NewFile(linkDescriptor, "upgrade")
	conn, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		return nil, nil, fmt.Errorf("the old process cannot be reached: %w", err)
	}
	p := &predecessor{link: newLink(conn), taken: make(chan struct{}), leases: make(map[stay][]*route.Lease)}
	in := &inherited{keep: is.Keep}
	for i, name := range is.Sockets {
		if err := in.add(name, os.NewFile(uintptr(firstSocket+i), name)); err != nil {
			in.close()
			p.link.close()
			return nil, nil, fmt.Errorf("socket %s of the old process: %w", name, err)
		}
	}
	return p, in, nil
}

// takeStderr makes standard error what it is for the old process. Until then that
// one reads it: what ends a program that is broken shows there.
func (p *predecessor) takeStderr() error {
	if p == nil {
		return nil
	}
	if err := dup2(stderrDescriptor, unix.Stderr); err != nil {
		return os.NewSyscallError("dup2", err)
	}
	return os.NewSyscallError("close", unix.Close(stderrDescriptor))
}

// takeOver tells the old process that this one is ready, and takes what it leaves:
// who is where, failed logins, changes of people.
func (p *predecessor) takeOver(ctx context.Context, a *app, l *loaded) error {
	if p == nil {
		return nil
	}
	p.server, p.log = a.server, a.log
	p.table = func() *route.Table {
		if now := a.current.Load(); now != nil {
			return now.routing.Table
		}
		return l.routing.Table
	}
	a.server.Probe(ctx)
	p.reading.Go(func() {
		p.link.run(p.hear)
		p.endAll()
	})
	p.link.send(message{Ready: &newcomer{Version: build().Version}})
	select {
	case <-p.taken:
		l.routing.Table.State().Restore(p.estate.Overrides)
		return nil
	case <-p.link.done:
		return fmt.Errorf("take over: %w", errLinkLost)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hear is called with what the old process says.
func (p *predecessor) hear(m message) {
	switch {
	case m.Residents != nil:
		table := p.table()
		for _, r := range m.Residents {
			leases := table.Adopt(r)
			p.mu.Lock()
			at := stay{r.User, r.Backend}
			p.leases[at] = append(p.leases[at], leases...)
			p.count += len(leases)
			p.mu.Unlock()
		}
	case m.Failures != nil:
		p.server.RestoreFailedLogins(m.Failures)
	case m.Take != nil:
		p.estate = m.Take
		close(p.taken)
	case m.Claim != nil:
		p.link.send(message{ID: m.ID, Answer: true, Claim: m.Claim, Granted: p.claim(*m.Claim)})
	case m.End != nil:
		p.end(*m.End)
	}
}

// claim lets the old process log a user in where this one would too, and counts it. That
// one does not say how long it waits: it gives back what it is granted too late.
func (p *predecessor) claim(at stay) bool {
	l, err := p.table().Begin(at.User)
	if err != nil {
		return false
	}
	if !l.Claim(context.Background(), at.Backend) || !l.Commit(at.Backend) {
		l.End()
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leases[at] = append(p.leases[at], l)
	p.count++
	return true
}

// end gives back what the old process does not have any more.
func (p *predecessor) end(at stay) {
	p.mu.Lock()
	var l *route.Lease
	if list := p.leases[at]; len(list) > 0 {
		l = list[len(list)-1]
		p.count--
		if p.leases[at] = list[:len(list)-1]; len(list) == 1 {
			delete(p.leases, at)
		}
	}
	p.mu.Unlock()
	if l != nil {
		l.End()
	}
}

// endAll gives everything back: the old process is gone.
func (p *predecessor) endAll() {
	p.mu.Lock()
	left := p.leases
	p.leases, p.count = nil, 0
	p.mu.Unlock()
	for _, list := range left {
		for _, l := range list {
			l.End()
		}
	}
	if p.estate != nil {
		p.log.Info("the old process has ended", zap.Int("pid", p.estate.PID), zap.Int("sessions_lost", len(left)))
	}
}

// serving tells the old process that this one serves.
func (p *predecessor) serving() {
	if p == nil {
		return
	}
	p.link.send(message{Serving: true})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log.Info("took over from an old process", zap.Int("pid", p.estate.PID), zap.String("version", p.estate.Version), zap.Int("sessions", p.count))
}

// failed tells the old process why this one does not serve, in the words that it
// would print.
func (p *predecessor) failed(err error) {
	if p == nil {
		return
	}
	var text strings.Builder
	report(&text, err)
	p.link.send(message{Failed: text.String()})
	if p.server == nil { // nobody reads yet
		p.reading.Go(func() { p.link.run(func(message) {}) })
	}
	p.link.finish()
	p.reading.Wait()
}

// close hangs up.
func (p *predecessor) close() {
	if p != nil {
		p.link.close()
		p.reading.Wait()
	}
}

// gone returns a channel that is closed when the old process is gone; nil when there
// was none.
func (p *predecessor) gone() <-chan struct{} {
	if p == nil {
		return nil
	}
	return p.link.done
}

// describe returns what an operator may want to know of the old process, nil when
// there is none.
func (p *predecessor) describe() *admin.OlderProcess {
	if p == nil || p.estate == nil {
		return nil
	}
	select {
	case <-p.link.done:
		return nil
	default:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return &admin.OlderProcess{PID: p.estate.PID, Version: p.estate.Version, Sessions: p.count}
}
