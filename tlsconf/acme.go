package tlsconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
)

// Challenge is how a CA is shown that a name is ours. See RFC 8555, Section 8.
type Challenge string

// The challenges.
const (
	ChallengeHTTP    Challenge = "http-01"     // asked on port 80
	ChallengeTLSALPN Challenge = "tls-alpn-01" // asked on port 443, see RFC 8737
	ChallengeDNS     Challenge = "dns-01"      // a TXT record; the one for wildcards
)

// LetsEncrypt is the directory that an empty ACMEOptions.Directory stands for.
const LetsEncrypt = certmagic.LetsEncryptProductionCA

// ACMEOptions says which certificates are obtained, where and how.
type ACMEOptions struct {
	// Domains are the names that certificates are obtained for, each its own, in
	// lower case. The first is that of clients which name none. A wildcard needs
	// ChallengeDNS.
	Domains []string

	// OnDemand says for a name outside of Domains whether a certificate may be
	// obtained when a client first asks for it; nil means never. It is called in
	// handshakes, and must be quick and safe for concurrent use.
	OnDemand func(name string) bool

	// DemandTimeout is how long a handshake waits for a certificate on demand; 0 means
	// seven seconds. A later handshake gets what this one asked for.
	DemandTimeout time.Duration

	Email     string
	Directory string         // the CA's; "" is LetsEncrypt
	Roots     *x509.CertPool // that vouch for the directory; nil means the system's
	EAB       *EAB           // nil: none

	Challenge      Challenge
	HTTPAddress    string      // where ChallengeHTTP is answered
	TLSALPNAddress string      // where ChallengeTLSALPN is answered
	DNS            *DNSOptions // how ChallengeDNS is answered

	// Storage is the directory that holds accounts, keys and certificates. Several
	// proxies may share it: one of them obtains a certificate, any of them answers
	// the CA, and all serve it.
	Storage string

	// Patience is how long after Start an address that is taken is tried again before
	// that is told: another process is about to let go of it.
	Patience time.Duration

	// RenewInterval is between looks for certificates to renew; 0 means ten minutes.
	RenewInterval time.Duration

	// Report is told what comes of orders and of the listening for challenges, once
	// for each change; nil tells nobody. It must not call back.
	Report func(ACMEReport)

	// Log gets what the ACME library has to say, at debug level; nil is nowhere.
	Log *zap.Logger
}

// EAB is an account at the CA that an ACME account is bound to. See RFC 8555,
// Section 7.3.4.
type EAB struct {
	KeyID string
	HMAC  string // base64url
}

// ACMEReport is news of an ACME.
type ACMEReport struct {
	Name    string // of the certificate; "" for the listening for challenges
	Renewed bool   // there was a certificate before
	Err     error  // nil: it went well; else says what to do
}

// ACME obtains certificates from a CA and renews them. Use [NewACME] to make one;
// nothing runs before Start. Its methods are safe for concurrent use.
type ACME struct {
	// Static after NewACME.
	o          ACMEOptions
	selfSigned *tls.Certificate

	// Static after Start.
	cache     *certmagic.Cache
	config    *certmagic.Config
	issuer    *certmagic.ACMEIssuer
	responder *responder // nil for ChallengeDNS
	cancel    context.CancelFunc
	work      chan func(context.Context) // what run does for others
	stopped   chan struct{}              // closed when run takes no more work
	wg        sync.WaitGroup             // run and what it began
	closing   sync.Once

	orders *bucket // of names on demand

	deaf atomic.Pointer[error] // why challenges cannot be answered; nil when they can

	mu    sync.Mutex
	names map[string]*managed
}

// NewACME checks the options. It opens nothing, and asks nobody.
func NewACME(o ACMEOptions) (*ACME, error) {
	o.Domains = slices.Clone(o.Domains)
	if o.Directory == "" {
		o.Directory = LetsEncrypt
	}
	if o.RenewInterval == 0 {
		o.RenewInterval = certmagic.DefaultRenewCheckInterval
	}
	if o.DemandTimeout == 0 {
		o.DemandTimeout = demandTimeout
	}
	if o.Report == nil {
		o.Report = func(ACMEReport) {}
	}
	switch {
	case len(o.Domains) == 0 && o.OnDemand == nil:
		return nil, errors.New("ACME without any domain")
	case o.Email == "":
		return nil, errors.New("ACME needs an e-mail address, which the CA writes to when something is wrong with a certificate")
	case o.Storage == "":
		return nil, errors.New("ACME needs a directory for accounts and certificates")
	}
	var err error
	switch o.Challenge {
	case ChallengeHTTP:
		_, _, err = hostAndPort(o.HTTPAddress)
	case ChallengeTLSALPN:
		_, _, err = hostAndPort(o.TLSALPNAddress)
	case ChallengeDNS:
		_, err = o.DNS.provider()
	default:
		err = errors.New("ACME challenge " + strconv.Quote(string(o.Challenge)) + " is unknown")
	}
	if err != nil {
		return nil, err
	}
	for _, d := range o.Domains {
		if err := CheckDomain(d, o.Challenge, o.Directory); err != nil {
			return nil, err
		}
	}
	a := &ACME{
		o: o, orders: &bucket{burst: onDemandBurst, every: onDemandEvery},
		work: make(chan func(context.Context)), stopped: make(chan struct{}),
		names: make(map[string]*managed),
	}
	if a.selfSigned, err = selfSigned(o.Domains); err != nil {
		return nil, err
	}
	return a, nil
}

// CheckDomain says why no certificate can be had for a name with a challenge.
func CheckDomain(name string, c Challenge, directory string) error {
	wrong := func(why string) error { return errors.New("domain " + strconv.Quote(name) + ": " + why) }
	switch {
	case net.ParseIP(name) != nil:
		return wrong("is an address; certificates are for names")
	case strings.HasPrefix(name, "*.") && c != ChallengeDNS:
		return wrong("a wildcard needs challenge dns-01")
	case directory == LetsEncrypt && !certmagic.SubjectQualifiesForPublicCert(name):
		return wrong("no public CA has certificates for such a name")
	}
	return nil
}

// Start serves what the storage has, begins to answer challenges, and obtains what
// is missing, until Close. That the CA cannot be reached, or that a port is taken,
// is told through Report and tried again.
func (a *ACME) Start(ctx context.Context) {
	ctx, a.cancel = context.WithCancel(ctx)
	log := quiet(a.o.Log)
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return a.config, nil },
		RenewCheckInterval: a.o.RenewInterval,
		Logger:             log,
	})
	// The cache looks for its configuration at the first tick only, long after this.
	a.config = certmagic.New(a.cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: a.o.Storage},
		OnEvent: a.event,
		OCSP:    certmagic.OCSPConfig{DisableStapling: true},
		Logger:  log,
	})
	template := certmagic.ACMEIssuer{
		CA: a.o.Directory, Email: a.o.Email, Agreed: true, TrustedRoots: a.o.Roots,
		DisableHTTPChallenge:    a.o.Challenge != ChallengeHTTP,
		DisableTLSALPNChallenge: a.o.Challenge != ChallengeTLSALPN,
		Logger:                  log,
	}
	if a.o.EAB != nil {
		template.ExternalAccount = &acme.EAB{KeyID: a.o.EAB.KeyID, MACKey: a.o.EAB.HMAC}
	}
	if a.o.Challenge == ChallengeDNS {
		template.DNS01Solver = a.o.DNS.solver(log)
	} else {
		a.responder = a.newResponder()
		a.responder.patience = time.Now().Add(a.o.Patience)
		a.listen(ctx)
		// The library listens by itself while it waits for the CA, unless the very
		// address is taken; ours stays open, for orders of other proxies.
		template.ListenHost, template.AltHTTPPort, template.AltTLSALPNPort = a.responder.host, a.responder.port, a.responder.port
	}
	a.issuer = certmagic.NewACMEIssuer(a.config, template)
	a.config.Issuers = []certmagic.Issuer{a.issuer}

	for _, name := range a.o.Domains {
		m := a.add(name, false)
		m.noteStored(a.load(ctx, name))
	}
	a.wg.Go(func() { a.run(ctx) })
}

// Close ends what Start began, and waits. Certificates are served on.
func (a *ACME) Close() {
	a.closing.Do(func() {
		a.cancel()
		a.wg.Wait()
		a.cache.Stop()
	})
}

// run does what is to be done beside handshakes.
func (a *ACME) run(ctx context.Context) {
	defer close(a.stopped)
	if a.responder != nil {
		a.wg.Go(func() { a.respond(ctx) })
	}
	for _, name := range a.o.Domains {
		m := a.managed(name)
		a.wg.Go(func() { a.keep(ctx, m) })
	}
	for {
		select {
		case f := <-a.work:
			a.wg.Go(func() { f(ctx) })
		case <-ctx.Done():
			return
		}
	}
}

// do has run begin f. It says whether there is a run any more.
func (a *ACME) do(f func(context.Context)) bool {
	select {
	case a.work <- f:
		return true
	case <-a.stopped:
		return false
	}
}

// hostAndPort splits an address to listen on.
func hostAndPort(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	return host, port, err
}
