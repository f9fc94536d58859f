package proxytest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var (
	errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	errNobody  = errors.New("there is no such connection yet")
	rawTag     = regexp.MustCompile(`<(t[0-9]+)>`)
)

// event plays one bracketed line.
func (r *runner) event(t *testing.T, st *step) error {
	t.Helper()
	e := st.event
	switch e.verb {
	case "connect":
		return r.connect(e)
	case "client":
		return choose(&r.client, r.clients, e.arg(0))
	case "backend":
		return choose(&r.backend, r.backends, e.arg(0))
	case "dial":
		return r.answerDial(e)
	case "tls":
		return r.tls(t, e)
	case "raw":
		return r.raw(e.arg(0))
	case "proxy":
		return r.proxyHeader(e)
	case "eof", "abort", "close":
		return r.end(e)
	case "closed":
		return r.expectClosed(e)
	case "sleep":
		d, err := time.ParseDuration(e.arg(0))
		if err != nil {
			return err
		}
		<-time.After(d)
		return nil
	case "shutdown":
		return r.shutDown(t, e)
	case "reload":
		key, value, _ := strings.Cut(e.arg(0), ":")
		if err := r.setup.set(t, strings.TrimSpace(key), strings.TrimSpace(value)); err != nil {
			return err
		}
		cfg, err := r.setup.snapshot()
		if err != nil {
			return err
		}
		return r.server.SetConfig(cfg)
	case "repeat":
		n, err := strconv.Atoi(e.arg(0))
		if err != nil {
			return err
		}
		for i := range n {
			if err := r.play(t, st.body); err != nil {
				return fmt.Errorf("round %d of %d: %w", i+1, n, err)
			}
		}
		return nil
	case "nothing", "end":
		return nil
	}
	known, err := r.operate(t, e)
	if !known {
		return fmt.Errorf("no such event: %s", e.verb)
	}
	return err
}

func choose(current **speaker, all []*speaker, number string) error {
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > len(all) {
		return errNobody
	}
	*current = all[n-1]
	return nil
}

// speaker returns who a letter stands for: S is what the proxy says to the
// client, P what it says to the backend.
func (r *runner) speaker(letter string) (*speaker, error) {
	var s *speaker
	switch letter {
	case "C", "S":
		s = r.client
	case "B", "P":
		s = r.backend
	default:
		return nil, fmt.Errorf("speaker %q", letter)
	}
	if s == nil {
		return nil, errNobody
	}
	return s, nil
}

func (r *runner) raw(text string) error {
	who, data, err := parseRaw(text)
	if err != nil {
		return err
	}
	s, err := r.speaker(string(who))
	if err != nil {
		return err
	}
	if who == 'C' || who == 'B' {
		var unknown error
		data = rawTag.ReplaceAllFunc(data, func(m []byte) []byte {
			tag := s.tags.values[string(m[1:len(m)-1])]
			if tag == "" {
				unknown = fmt.Errorf("the proxy has not used the tag %s yet", m)
			}
			return []byte(tag)
		})
		if unknown != nil {
			return unknown
		}
		return s.send(data)
	}
	got := s.unread()
	if !bytes.HasPrefix(got, data) {
		return fmt.Errorf("expected, to %s:\n%sgot:\n%s", s.name, printBytes(data), printBytes(got))
	}
	s.skip(len(data))
	return nil
}

func (r *runner) proxyHeader(e event) error {
	if e.arg(0) != "v2" {
		return errors.New("version 1 is text: write it as a C or P line")
	}
	s, err := r.speaker(e.arg(1))
	if err != nil {
		return err
	}
	want, err := headerOf(e)
	if err != nil {
		return err
	}
	if e.arg(1) == "C" {
		return s.send(want.append(nil))
	}
	got, size, err := parseHeader(s.unread())
	if err != nil {
		return err
	}
	if got.String() != want.String() {
		return fmt.Errorf("expected: %s\ngot:      %s", want, got)
	}
	s.skip(size)
	return nil
}

// end plays the transcript's own ends of connections, and expects the proxy's.
func (r *runner) end(e event) error {
	s, err := r.speaker(e.arg(0))
	if err != nil {
		return err
	}
	switch {
	case e.verb == "abort":
		s.abort()
		return nil
	case e.verb == "close":
		return s.close()
	case e.arg(0) == "C" || e.arg(0) == "B":
		if e.arg(1) == "abruptly" {
			return s.raw.CloseWrite() // without close_notify
		}
		return s.closeWrite()
	}
	if p := s.unread(); len(p) > 0 {
		return fmt.Errorf("before the end, to %s:\n%s", s.name, printBytes(p))
	}
	eof, closed, clean := s.ended()
	switch {
	case closed:
		return fmt.Errorf("the proxy closed %s altogether", s.name)
	case !eof:
		return fmt.Errorf("the proxy has not ended its direction to %s", s.name)
	case !clean:
		return errors.New("without close_notify")
	}
	s.toldEOF = true
	return nil
}

func (r *runner) expectClosed(e event) error {
	s, err := r.speaker(e.arg(0))
	if err != nil {
		return err
	}
	if p := s.unread(); len(p) > 0 {
		return fmt.Errorf("before the end, to %s:\n%s", s.name, printBytes(p))
	}
	_, closed, clean := s.ended()
	if !closed {
		return fmt.Errorf("the proxy has not closed %s", s.name)
	}
	if abruptly := e.has("abruptly"); clean == abruptly {
		return fmt.Errorf("the proxy closed cleanly: %t", clean)
	}
	s.toldEOF, s.toldClosed = true, true
	return nil
}

func (r *runner) shutDown(t *testing.T, e event) error {
	t.Helper()
	if e.arg(0) == "done" {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.shutting {
			return errors.New("the shutdown has not ended")
		}
		return nil
	}
	limit := time.Minute
	if e.arg(0) != "" {
		var err error
		if limit, err = time.ParseDuration(e.arg(0)); err != nil {
			return err
		}
	}
	r.shutting = true
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), limit)
		defer cancel()
		err := r.server.Shutdown(ctx)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.shutting, r.shutdown = false, err
	}()
	return nil
}

// tls plays a TLS handshake of either side.
func (r *runner) tls(t *testing.T, e event) error {
	t.Helper()
	s, err := r.speaker(e.arg(0))
	if err != nil {
		return err
	}
	behind := e.opts["behind"]
	if s.who == 'C' {
		config, err := r.clientConfig(t, e)
		if err != nil {
			return err
		}
		s.startTLS(behind, behind != "", func(c net.Conn) *tls.Conn { return tls.Client(c, config) })
	} else {
		if len(s.unread()) == 0 {
			return errors.New("the proxy has not begun a handshake")
		}
		config := r.serverConfig(t, s.host, e)
		s.startTLS(behind, false, func(c net.Conn) *tls.Conn { return tls.Server(c, config) })
	}
	synctest.Wait()
	state, ready, err := s.handshake()
	switch {
	case !ready:
		return errors.New("the handshake does not end")
	case e.has("fails") && err == nil:
		return errors.New("the handshake succeeded")
	case e.has("fails"):
		r.say("# %s", err)
		return nil
	case err != nil:
		return err
	case e.has("resumed") && !state.DidResume:
		return errors.New("the session was not resumed")
	case s.who == 'B' && e.opts["sni"] != "" && state.ServerName != e.opts["sni"]:
		return fmt.Errorf("the proxy asked for %q", state.ServerName)
	case s.who == 'C' && e.opts["alpn"] != "" && state.NegotiatedProtocol != e.opts["alpn"] && state.NegotiatedProtocol != "imap":
		return fmt.Errorf("ALPN chose %q", state.NegotiatedProtocol)
	}
	return nil
}

type clientSessions struct{ cache tls.ClientSessionCache }

func newClientSessions() *clientSessions {
	return &clientSessions{tls.NewLRUClientSessionCache(0)}
}

func (r *runner) clientConfig(t *testing.T, e event) (*tls.Config, error) {
	t.Helper()
	config := &tls.Config{
		RootCAs: r.setup.ca.Pool(), ServerName: "imap.example.org", MinVersion: tls.VersionTLS12,
		ClientSessionCache: r.clientTLS.cache,
	}
	switch sni := e.opts["sni"]; sni {
	case "", "imap.example.org":
	case "none":
		config.ServerName, config.InsecureSkipVerify = "", true
	default:
		config.ServerName, config.InsecureSkipVerify = sni, true
	}
	if alpn := e.opts["alpn"]; alpn != "" {
		config.NextProtos = strings.Split(alpn, ",")
	}
	switch e.opts["max"] {
	case "":
	case "1.1":
		config.MinVersion, config.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	case "1.2":
		config.MaxVersion = tls.VersionTLS12
	default:
		return nil, fmt.Errorf("max=%s", e.opts["max"])
	}
	if user := e.opts["cert"]; user != "" {
		ca := r.setup.ca
		if rogue, ok := strings.CutPrefix(user, "forged:"); ok {
			ca, user = r.setup.rogue, rogue
		}
		users := strings.Split(user, ",")
		cert := ca.Issue(t, CertOptions{Client: true, Emails: users, CommonNames: users})
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		config.ClientSessionCache = nil
	}
	return config, nil
}

func (r *runner) serverConfig(t *testing.T, host string, e event) *tls.Config {
	t.Helper()
	kind := e.opts["cert"]
	if kind == "" {
		return r.setup.servers[host]
	}
	o := CertOptions{Hosts: []string{host + ".internal"}}
	ca := r.setup.ca
	switch kind {
	case "wrong-name":
		o.Hosts = []string{"other.example.org"}
	case "expired":
		o.NotAfter = time.Now().Add(-time.Hour)
	default:
		ca = r.setup.rogue
	}
	return &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, o)}, MinVersion: tls.VersionTLS12}
}
