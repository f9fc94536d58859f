package tlsconf

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/mholt/acmez/v3"
	"go.uber.org/zap"
)

// ChallengeProtocol is the ALPN name of ChallengeTLSALPN. See RFC 8737, Section 6.2.
const ChallengeProtocol = acmez.ACMETLS1Protocol

const (
	// relistenAfter is how often an address that is taken is tried again.
	relistenAfter = 30 * time.Second
	relistenSoon  = 100 * time.Millisecond // while it is to be free in a moment

	// challengeTimeout bounds each step of an answer to a CA.
	challengeTimeout = 5 * time.Second

	// maxChallenges bounds how many handshakes are answered at once.
	maxChallenges = 64
)

// responder answers challenges at an address of its own, and nothing else.
type responder struct {
	host string
	port int

	// Owned by respond after Start.
	open     net.Listener // nil: not open
	told     bool         // that it is not
	patience time.Time    // until when it may be closed without being told

	wanted chan chan struct{} // wishes to open it now
}

// deafError says that no challenge can be answered.
type deafError struct{ problem string }

func (e *deafError) Error() string { return e.problem }

func (a *ACME) newResponder() *responder {
	address := a.o.HTTPAddress
	if a.o.Challenge == ChallengeTLSALPN {
		address = a.o.TLSALPNAddress
	}
	host, port, _ := hostAndPort(address) // NewACME has looked at it
	return &responder{host: host, port: port, wanted: make(chan chan struct{})}
}

// listen opens the address of the responder.
func (a *ACME) listen(ctx context.Context) {
	r := a.responder
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(r.host, strconv.Itoa(r.port)))
	if err == nil {
		r.open = l
		a.hear(nil)
		return
	}
	a.hear(&deafError{a.explainListen(err)})
}

// hear remembers whether challenges can be answered, and reports what is news.
func (a *ACME) hear(now error) {
	was := a.deaf.Swap(&now)
	r := a.responder
	switch {
	case now == nil && !r.told:
	case now != nil && time.Now().Before(r.patience):
	case now != nil && r.told && (*was).Error() == now.Error():
	default:
		r.told = now != nil
		a.o.Report(ACMEReport{Err: now})
	}
}

// ready returns why challenges cannot be answered now: an order would fail, and
// count against the limits of the CA.
func (a *ACME) ready() error {
	if deaf := a.deaf.Load(); deaf != nil {
		return *deaf
	}
	return nil
}

// respond answers challenges until ctx ends. An address that cannot be opened is
// tried again.
func (a *ACME) respond(ctx context.Context) {
	defer func() {
		if l := a.responder.open; l != nil {
			_ = l.Close()
		}
	}()
	for ctx.Err() == nil {
		if a.responder.open == nil {
			if !a.relisten(ctx) {
				continue
			}
			a.tryAll()
		}
		l := a.responder.open
		closed := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			defer close(closed)
			_ = l.Close()
		})
		var err error
		if a.o.Challenge == ChallengeHTTP {
			err = a.serveHTTP(l)
		} else {
			err = a.serveTLS(ctx, l)
		}
		if !stop() {
			<-closed // Close promises that the address is free
		}
		_ = l.Close()
		a.responder.open = nil
		if ctx.Err() == nil {
			a.hear(&deafError{a.explainListen(err)})
		}
	}
}

// relisten opens the address of the responder again after a while, or when somebody
// wants it now.
func (a *ACME) relisten(ctx context.Context) bool {
	after := relistenAfter
	if time.Now().Before(a.responder.patience) {
		after = relistenSoon
	}
	t := time.NewTimer(after)
	defer t.Stop()
	select {
	case <-t.C:
		a.listen(ctx)
	case done := <-a.responder.wanted:
		a.listen(ctx)
		close(done)
	case <-ctx.Done():
	}
	return a.responder.open != nil
}

// want has a closed address of the responder tried now, and waits.
func (a *ACME) want(ctx context.Context) {
	if a.ready() == nil {
		return
	}
	done := make(chan struct{})
	select {
	case a.responder.wanted <- done:
		<-done
	case <-ctx.Done():
	}
}

// tryAll has all names tried again that wait for their next attempt.
func (a *ACME) tryAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range a.names {
		select {
		case m.again <- struct{}{}:
		default:
		}
	}
}

// serveHTTP answers what CAs ask over HTTP; there is nothing else, and no redirect.
func (a *ACME) serveHTTP(l net.Listener) error {
	nothing := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	errorLog, err := zap.NewStdLogAt(quiet(a.o.Log), zap.DebugLevel)
	if err != nil {
		return err
	}
	s := &http.Server{
		Handler:           a.issuer.HTTPChallengeHandler(nothing),
		ReadHeaderTimeout: challengeTimeout, ReadTimeout: challengeTimeout,
		WriteTimeout: challengeTimeout, IdleTimeout: challengeTimeout,
		MaxHeaderBytes: 8 << 10,
		ErrorLog:       errorLog,
	}
	s.SetKeepAlivesEnabled(false)
	defer s.Close()
	return s.Serve(l)
}

// serveTLS makes the handshakes of CAs, and closes.
func (a *ACME) serveTLS(ctx context.Context, l net.Listener) error {
	conf := &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{ChallengeProtocol},
		GetCertificate: a.challengeCertificate, SessionTicketsDisabled: true,
	}
	room := make(chan struct{}, maxChallenges)
	for {
		nc, err := l.Accept()
		if err != nil {
			return err
		}
		room <- struct{}{}
		a.wg.Go(func() {
			defer func() { <-room }()
			ctx, cancel := context.WithTimeout(ctx, challengeTimeout)
			defer cancel()
			_ = tls.Server(nc, conf).HandshakeContext(ctx) // whoever asked knows more
			_ = nc.Close()
		})
	}
}

// errNoChallenge ends handshakes of whoever is not a CA.
var errNoChallenge = errors.New("not the handshake of a challenge")

// isChallenge says whether a handshake is that of a CA. See RFC 8737, Section 3.
func isChallenge(hello *tls.ClientHelloInfo) bool {
	return len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == ChallengeProtocol
}

// challengeCertificate returns what shows a CA that a name is ours.
func (a *ACME) challengeCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if !isChallenge(hello) || hello.ServerName == "" || a.o.Challenge != ChallengeTLSALPN {
		return nil, errNoChallenge
	}
	return a.config.GetCertificate(hello)
}

// explainListen says why an address cannot be listened on, and what to do.
func (a *ACME) explainListen(err error) string {
	key, port, other := "http_address", "80", "let it forward /.well-known/acme-challenge/ to a loopback port, and set tls.acme.http_address to that"
	if a.o.Challenge == ChallengeTLSALPN {
		key, port, other = "tls_alpn_address", "443", "let it forward connections with ALPN "+ChallengeProtocol+" to a loopback port, and set tls.acme.tls_alpn_address to that; or use challenge http-01 or dns-01"
	}
	address := net.JoinHostPort(a.responder.host, strconv.Itoa(a.responder.port))
	what := fmt.Sprintf("no certificate can be obtained: tls.acme.%s %s cannot be listened on", key, address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return what + ", another program has it (see ss -ltnp): stop that, or " + other
	case errors.Is(err, syscall.EACCES):
		return what + ": ports below 1024 need root or CAP_NET_BIND_SERVICE"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return what + ": this machine does not have that address; the CA asks port " + port + " of the address that the name has in DNS"
	}
	return what + ": " + err.Error()
}
