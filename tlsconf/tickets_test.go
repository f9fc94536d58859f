package tlsconf_test

import (
	"crypto/tls"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"imapgate/proxy/proxytest"
	"imapgate/tlsconf"
)

// gate is one proxy, as far as its TLS goes.
type gate struct {
	t       *testing.T
	ca      *proxytest.CA
	cert    tls.Certificate
	tickets tlsconf.Tickets
}

func newGate(t *testing.T, ca *proxytest.CA, keyFile string) *gate {
	t.Helper()
	g := &gate{t: t, ca: ca, cert: ca.Issue(t, proxytest.CertOptions{})}
	if keyFile != "" {
		g.tickets.Set(ticketKeys(t, keyFile))
	}
	return g
}

func ticketKeys(t *testing.T, file string) *tlsconf.TicketKeys {
	t.Helper()
	keys, err := tlsconf.NewTicketKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// listener returns the configuration of a listener of the gate.
func (g *gate) listener(o tlsconf.ServerOptions) *tls.Config {
	g.t.Helper()
	c := server(g.t, g.cert, o)
	g.tickets.Attach(c)
	return c
}

// user is a client that remembers sessions.
func (g *gate) user(version uint16) *tls.Config {
	return &tls.Config{
		RootCAs: g.ca.Pool(), ServerName: "localhost", MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}
}

// resumes connects, and says whether that resumed an earlier session.
func resumes(t *testing.T, client, server *tls.Config) bool {
	t.Helper()
	o := connect(t, client, server)
	if !o.ok() {
		t.Fatalf("client: %v, server: %v", o.clientErr, o.serverErr)
	}
	return o.server.DidResume
}

func rotate(t *testing.T, file string, keep int) tlsconf.Rotation {
	t.Helper()
	done, err := tlsconf.RotateTicketKeys(file, keep, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// resuming are the versions of TLS whose sessions are resumed.
func resuming() []uint16 { return []uint16{tls.VersionTLS12, tls.VersionTLS13} }

func TestSessionsAreResumedAfterARestartAndAtAnotherProxy(t *testing.T) {
	for _, version := range resuming() {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			ca, file := proxytest.NewCA(t), filepath.Join(t.TempDir(), "keys")
			rotate(t, file, 2)
			first, second := newGate(t, ca, file), newGate(t, ca, file)
			user := first.user(version)
			if resumes(t, user, first.listener(tlsconf.ServerOptions{})) {
				t.Error("the first connection resumed a session")
			}
			for name, l := range map[string]*tls.Config{
				"another listener": first.listener(tlsconf.ServerOptions{}),
				"another proxy":    second.listener(tlsconf.ServerOptions{}),
				"after a restart":  newGate(t, ca, file).listener(tlsconf.ServerOptions{}),
			} {
				if !resumes(t, user, l) {
					t.Errorf("%s: no session was resumed", name)
				}
			}
		})
	}
}

func TestWithoutAFileEachListenerHasItsOwnKeys(t *testing.T) {
	for _, version := range resuming() {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			g := newGate(t, proxytest.NewCA(t), "")
			a, b := g.listener(tlsconf.ServerOptions{}), g.listener(tlsconf.ServerOptions{})
			user := g.user(version)
			if resumes(t, user, a) || !resumes(t, user, a) {
				t.Error("a session should be resumed the second time")
			}
			if resumes(t, user, b) {
				t.Error("the ticket of another listener was taken")
			}
		})
	}
}

func TestTicketsOutliveAsManyRotationsAsKeysAreKept(t *testing.T) {
	for _, version := range resuming() {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			ca, file := proxytest.NewCA(t), filepath.Join(t.TempDir(), "keys")
			rotate(t, file, 2)
			g := newGate(t, ca, file)
			user := g.user(version)
			resumes(t, user, g.listener(tlsconf.ServerOptions{}))
			// Each time a new ticket would be made, so the old one has to be kept.
			ticket, _ := user.ClientSessionCache.Get("localhost")
			for rotations := 1; rotations <= 4; rotations++ {
				rotate(t, file, 2)
				user.ClientSessionCache.Put("localhost", ticket)
				want := rotations <= 2
				if got := resumes(t, user, newGate(t, ca, file).listener(tlsconf.ServerOptions{})); got != want {
					t.Errorf("after %d rotations: resumed is %v, want %v", rotations, got, want)
				}
			}
		})
	}
}

// A proxy that has not got the last change of the file yet still opens the
// tickets of those that have.
func TestProxyThatIsOneRotationBehindOpensNewTickets(t *testing.T) {
	ca, dir := proxytest.NewCA(t), t.TempDir()
	file, copied := filepath.Join(dir, "keys"), filepath.Join(dir, "copy")
	rotate(t, file, 2)
	rotate(t, file, 2)
	write(t, copied, read(t, file))
	rotate(t, file, 2)
	ahead, behind := newGate(t, ca, file), newGate(t, ca, copied)
	user := ahead.user(tls.VersionTLS13)
	resumes(t, user, ahead.listener(tlsconf.ServerOptions{}))
	if !resumes(t, user, behind.listener(tlsconf.ServerOptions{})) {
		t.Error("the proxy that is behind does not know the key")
	}
	if !resumes(t, user, ahead.listener(tlsconf.ServerOptions{})) {
		t.Error("the proxy that is ahead does not know the key")
	}
}

func TestKeysAreReadAgainWhileListenersServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, file := proxytest.NewCA(t), filepath.Join(t.TempDir(), "keys")
		rotate(t, file, 0)
		keys := ticketKeys(t, file)
		g := newGate(t, ca, "")
		l := g.listener(tlsconf.ServerOptions{})
		user := g.user(tls.VersionTLS13)
		resumes(t, user, l)
		g.tickets.Set(keys)
		if resumes(t, user, l) {
			t.Error("the listener's own key is still in use")
		}
		rotate(t, file, 0)
		rotate(t, file, 0) // the key of the ticket is gone
		if !resumes(t, user, l) {
			t.Error("not resumed before the reload")
		}
		if changed, err := tlsconf.Reload(keys); !changed || err != nil {
			t.Fatal(changed, err)
		}
		if resumes(t, user, l) {
			t.Error("a key that is gone is still in use")
		}
		write(t, file, []byte("current 2026-11-25T03:00:00Z c2hvcnQ=\n"))
		_, err := tlsconf.Reload(keys)
		want := "session ticket keys " + file + ": line 1: the key is not the base64 of 32 bytes; the keys loaded before stay in use"
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		if !resumes(t, user, l) {
			t.Error("a bad file took the keys away")
		}
		g.tickets.Set(nil)
		if resumes(t, user, l) || !resumes(t, user, l) {
			t.Error("without a file the listener should have new keys of its own")
		}
	})
}

// CVE-2025-68121 was this: a session that was verified by one configuration was
// resumed by another that trusts other authorities.
func TestTicketsNeverLeadIntoAnotherTrustDomain(t *testing.T) {
	for _, version := range resuming() {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			ca, file := proxytest.NewCA(t), filepath.Join(t.TempDir(), "keys")
			partners, staff := proxytest.NewCA(t), proxytest.NewCA(t)
			rotate(t, file, 2)
			g := newGate(t, ca, file)
			asking := func(ca *proxytest.CA, auth tls.ClientAuthType) *tls.Config {
				return g.listener(tlsconf.ServerOptions{ClientAuth: auth, ClientCAs: ca.Pool()})
			}
			open := g.listener(tlsconf.ServerOptions{})
			atPartners := asking(partners, tls.VerifyClientCertIfGiven)
			atStaff := asking(staff, tls.RequireAndVerifyClientCert)

			user := g.user(version)
			user.Certificates = []tls.Certificate{partners.Issue(t, proxytest.CertOptions{Client: true})}
			for range 2 {
				if o := connect(t, user, atPartners); !o.ok() || o.server.DidResume || len(o.server.VerifiedChains) == 0 {
					t.Errorf("at its own listener: resumed is %v, %d chains; %v, %v", o.server.DidResume, len(o.server.VerifiedChains), o.clientErr, o.serverErr)
				}
			}
			// Not with whatever it may have been given there.
			if o := connect(t, user, atStaff); o.ok() {
				t.Error("a certificate of another authority was taken")
			}
			// Nor with the ticket of a listener that asks for none.
			anonymous := g.user(version)
			if resumes(t, anonymous, open) || !resumes(t, anonymous, open) {
				t.Error("the ticket should be good where it comes from")
			}
			if o := connect(t, anonymous, atStaff); o.ok() {
				t.Error("a ticket took the place of a certificate")
			}
			if o := connect(t, anonymous, atPartners); !o.ok() || o.server.DidResume || len(o.server.PeerCertificates) > 0 {
				t.Errorf("resumed is %v; %v, %v", o.server.DidResume, o.clientErr, o.serverErr)
			}
		})
	}
}

// The trigger itself: the configuration that resumes differs from the one that
// verified, in its authorities alone. It is as after a reload with another
// client_ca, with keys that survive it.
func TestSessionIsNotResumedAfterTheAuthoritiesHaveChanged(t *testing.T) {
	for _, version := range resuming() {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			ca, file := proxytest.NewCA(t), filepath.Join(t.TempDir(), "keys")
			before, after := proxytest.NewCA(t), proxytest.NewCA(t)
			rotate(t, file, 2)
			g := newGate(t, ca, file)
			l := g.listener(tlsconf.ServerOptions{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: before.Pool()})
			user := g.user(version)
			user.Certificates = []tls.Certificate{before.Issue(t, proxytest.CertOptions{Client: true})}
			for range 2 {
				if resumes(t, user, l) {
					t.Error("resumed")
				}
			}

			changed := l.Clone() // with whatever keys it has
			changed.ClientCAs = after.Pool()
			dispatching := l.Clone()
			dispatching.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return changed, nil }
			for name, s := range map[string]*tls.Config{
				"a new listener": g.listener(tlsconf.ServerOptions{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: after.Pool()}),
				"a clone":        changed,
				"for the client": dispatching,
			} {
				if o := connect(t, user, s); o.ok() {
					t.Errorf("%s: the certificate of an authority that is gone was taken, resumed is %v", name, o.server.DidResume)
				}
			}
		})
	}
}

func TestTicketDoesNotOpenWhereMoreIsDemanded(t *testing.T) {
	ca, file := proxytest.NewCA(t), filepath.Join(t.TempDir(), "keys")
	rotate(t, file, 2)
	g := newGate(t, ca, file)
	user := g.user(tls.VersionTLS13)
	resumes(t, user, g.listener(tlsconf.ServerOptions{}))
	if resumes(t, user, g.listener(tlsconf.ServerOptions{MinVersion: tls.VersionTLS13})) {
		t.Error("the listener for TLS 1.3 has the keys of the other one")
	}
}

func TestOldKeysAreWarnedOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "keys")
		const day = 24 * time.Hour
		for range 3 {
			<-time.After(day)
			rotate(t, file, 2)
		}
		keys := ticketKeys(t, file)
		for after, want := range map[time.Duration]string{
			0:          "",
			7 * day:    "",
			8*day + 60: "session ticket keys " + file + ": the last rotation was 8 days ago; `imapgate ticket-key rotate` should run every day",
		} {
			if got := keys.Warning(time.Now().Add(after)); got != want {
				t.Errorf("after %s: got %q, want %q", after, got, want)
			}
		}
	})
}
