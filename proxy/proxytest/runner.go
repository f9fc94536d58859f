package proxytest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"imapgate/proxy"
)

// Run runs a transcript in virtual time, see the package comment. It calls
// [synctest.Test].
func Run(t *testing.T, file string) {
	t.Helper()
	run(t, file, false)
}

// Update runs a transcript and rewrites its S and P lines, their number
// included, to what the proxy says. Everything else of the file is kept.
func Update(t *testing.T, file string) {
	t.Helper()
	run(t, file, true)
}

func run(t *testing.T, file string, update bool) {
	t.Helper()
	s, err := readScript(file)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		t.Helper()
		if err := perform(t, s, update); err != nil {
			t.Fatal(err)
		}
	})
}

// perform plays a transcript inside a bubble. The error shows the dialogue so far.
func perform(t *testing.T, s *script, update bool) error {
	t.Helper()
	r := &runner{script: s, setup: newSetup(t), edit: newEdit(update)}
	err := r.start(t)
	if err == nil {
		err = r.play(t, s.conversation)
	}
	if err == nil {
		err = r.finish()
	}
	dialogue, logged := strings.Join(r.said, "\n"), r.printLog()
	r.stop()
	if err == nil {
		err = r.checkLog()
		logged = r.printLog()
	}
	if err == nil && update {
		err = r.edit.write(s)
	}
	if err != nil {
		return fmt.Errorf("%w\n\n%s\n\nlog:\n%s", err, dialogue, logged)
	}
	return nil
}

// runner plays one transcript. Its fields belong to the goroutine that plays,
// but for the guarded ones.
type runner struct {
	script   *script
	setup    *setup
	edit     edit
	listener *Listener
	server   *proxy.Server
	logs     *observer.ObservedLogs
	said     []string // the dialogue so far

	clients  []*speaker
	backends []*speaker
	client   *speaker // the current one
	backend  *speaker

	// sessionCaches resume the client's TLS sessions.
	clientTLS *clientSessions

	// nobody is whose session id it is while there is no client.
	nobody names

	mu       sync.Mutex
	dials    []*dial // not answered by the transcript yet
	served   error   // what Serve returned
	serving  bool
	shutdown error
	shutting bool
}

var errNoServe = errors.New("still serving")

func (r *runner) start(t *testing.T) error {
	t.Helper()
	for _, c := range r.script.config {
		if err := r.setup.set(t, c.key, c.value); err != nil {
			return fmt.Errorf("%s:%d: %s: %w", r.script.file, c.line, c.key, err)
		}
	}
	r.clientTLS = newClientSessions()
	core, logs := observer.New(zapcore.DebugLevel)
	r.logs = logs
	cfg, err := r.setup.snapshot()
	if err == nil {
		r.server, err = proxy.NewServer(cfg, proxy.Options{Logger: zap.New(core), Dial: r.dial})
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.script.file, err)
	}
	r.listener = NewListener(r.setup.address)
	l := r.setup.finish(t, r.listener)
	r.serving, r.served = true, errNoServe
	go func() {
		err := r.server.Serve(t.Context(), l)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.served, r.serving = err, false
	}()
	return nil
}

// stop closes everything, so that no goroutine is left of what was in order.
func (r *runner) stop() {
	if r.server == nil {
		return
	}
	closed := make(chan struct{})
	go func() {
		_ = r.server.Close()
		close(closed)
	}()
	synctest.Wait()
	for _, s := range slices.Concat(r.clients, r.backends) {
		s.abort()
	}
	r.mu.Lock()
	for _, d := range r.dials {
		d.answer <- answer{err: errors.New("the transcript is over")}
	}
	r.mu.Unlock()
	select {
	case <-closed:
	case <-time.After(time.Hour): // virtual; a leak is then reported with its stack
	}
	synctest.Wait()
}

// play plays some steps in order.
func (r *runner) play(t *testing.T, steps []*step) error {
	t.Helper()
	for _, st := range steps {
		if err := r.step(t, st); err != nil {
			return fmt.Errorf("%s:%d: %s\n%w", r.script.file, st.line, r.script.lines[st.line-1], err)
		}
	}
	return nil
}

func (r *runner) step(t *testing.T, st *step) error {
	t.Helper()
	r.settle()
	if st.who == 'S' || st.who == 'P' {
		if r.edit.on {
			r.rewriteLine(st)
			return nil
		}
		return r.expectLine(st)
	}
	r.rewrite(st)
	if !expects(st) && !brackets(st) {
		if err := r.quiet(st); err != nil {
			return err
		}
	}
	if st.who != '[' || st.event.verb != "repeat" {
		r.say("%s", r.script.lines[st.line-1])
	}
	switch st.who {
	case 'C':
		return r.sendLine(r.client, st.text)
	case 'B':
		return r.sendLine(r.backend, st.text)
	}
	return r.event(t, st)
}

// expects says whether a step is itself about something that the proxy says or
// does, so that some of it may be waiting.
func expects(st *step) bool {
	e := st.event
	switch e.verb {
	case "closed", "dial":
		return true
	case "eof":
		return e.arg(0) == "S" || e.arg(0) == "P"
	case "tls":
		return e.arg(0) == "B"
	case "raw":
		return strings.HasPrefix(e.arg(0), "S") || strings.HasPrefix(e.arg(0), "P")
	case "proxy":
		return e.arg(1) == "P"
	case "client", "backend":
		return true
	}
	return false
}

// brackets says whether a step is about other steps, which see to what is waiting.
func brackets(st *step) bool { return st.event.verb == "repeat" || st.event.verb == "end" }

// settle waits until the proxy waits, and collects what it has said.
func (r *runner) settle() {
	synctest.Wait()
	for _, s := range slices.Concat(r.clients, r.backends) {
		s.collect()
	}
}

// quiet fails when the proxy said or did what the transcript does not tell.
func (r *runner) quiet(st *step) error {
	for _, s := range slices.Concat(r.clients, r.backends) {
		if p := s.unread(); len(p) > 0 {
			return fmt.Errorf("unexpected, to %s:\n%s", s.name, printBytes(p))
		}
		eof, closed, _ := s.ended()
		switch {
		case closed && !s.toldClosed:
			return fmt.Errorf("unexpected: the proxy closed %s", s.name)
		case eof && !s.toldEOF:
			return fmt.Errorf("unexpected: the proxy ended its direction to %s", s.name)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.dials) > 0 {
		return fmt.Errorf("unexpected: the proxy dialled %s", r.dials[0].backend)
	}
	if !r.serving && st != nil && st.event.verb == "connect" {
		return fmt.Errorf("the server does not serve: %w", r.served)
	}
	return nil
}

// finish checks, at the end, that the transcript told everything.
func (r *runner) finish() error {
	r.settle()
	r.rewrite(&step{line: r.script.end + 1, who: '[', event: event{verb: "nothing"}})
	if err := r.quiet(nil); err != nil {
		return fmt.Errorf("%s: at the end: %w", r.script.file, err)
	}
	return nil
}

func (r *runner) expectLine(st *step) error {
	s := r.client
	if st.who == 'P' {
		s = r.backend
	}
	if s == nil {
		return errors.New("there is no such connection yet")
	}
	got, ok := s.line()
	if !ok {
		return fmt.Errorf("expected: %s\nbut %s has got:\n%s", st.text, s.name, printBytes(s.unread()))
	}
	if err := r.match(st, s, got); err != nil {
		r.say("%s", r.print(st.who, s, got))
		return fmt.Errorf("expected: %s\ngot:      %s\n%w", st.text, printLine(r.session(), got), err)
	}
	r.say("%s", r.script.lines[st.line-1])
	return nil
}

// match decides whether a line that the proxy said is the one that st expects.
func (r *runner) match(st *step, s *speaker, got string) error {
	if st.who == 'P' {
		return matchProxyLine(&s.tags, r.session(), st.text, got)
	}
	want, err := expandBase64(st.text)
	if err != nil {
		return err
	}
	if !s.tags.matchSession(want, got) {
		return errDiffers
	}
	return nil
}

// session returns what holds the session id of the current client.
func (r *runner) session() *names {
	if r.client == nil {
		return &r.nobody
	}
	return &r.client.tags
}

func (r *runner) sendLine(s *speaker, text string) error {
	if s == nil {
		return errors.New("there is no such connection yet")
	}
	text, err := expandBase64(text)
	if err != nil {
		return err
	}
	if word, rest, ok := strings.Cut(text, " "); ok && s.who == 'B' && tagName.MatchString(word) {
		tag := s.tags.values[word]
		if tag == "" {
			return fmt.Errorf("the proxy has not used the tag %s yet", word)
		}
		text = tag + " " + rest
	}
	return s.send([]byte(text + "\r\n"))
}

func (r *runner) say(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

var errDiffers = errors.New("they differ")

func printBytes(p []byte) string {
	if len(p) == 0 {
		return "nothing"
	}
	var b strings.Builder
	for line := range strings.Lines(string(p[:min(len(p), 2000)])) {
		fmt.Fprintf(&b, "\t%q\n", line)
	}
	if len(p) > 2000 {
		fmt.Fprintf(&b, "\t… %d bytes in all\n", len(p))
	}
	return b.String()
}
