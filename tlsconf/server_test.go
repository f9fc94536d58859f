package tlsconf_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"imapgate/proxy/proxytest"
	"imapgate/tlsconf"
)

func TestOldProtocolsAndCiphersAreRefused(t *testing.T) {
	ca := proxytest.NewCA(t)
	cert := ca.Issue(t, proxytest.CertOptions{RSA: true})
	tests := map[string]struct {
		server tlsconf.ServerOptions
		client *tls.Config
		ok     bool
	}{
		"TLS 1.1":               {tlsconf.ServerOptions{}, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
		"TLS 1.2":               {tlsconf.ServerOptions{}, &tls.Config{MaxVersion: tls.VersionTLS12}, true},
		"TLS 1.3":               {tlsconf.ServerOptions{}, &tls.Config{MinVersion: tls.VersionTLS13}, true},
		"TLS 1.2 where 1.3 min": {tlsconf.ServerOptions{MinVersion: tls.VersionTLS13}, &tls.Config{MaxVersion: tls.VersionTLS12}, false},
		"TLS 1.3 where 1.3 min": {tlsconf.ServerOptions{MinVersion: tls.VersionTLS13}, &tls.Config{}, true},
		"CBC alone": {tlsconf.ServerOptions{}, &tls.Config{
			MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{
				tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256,
			},
		}, false},
		"RSA key exchange alone": {tlsconf.ServerOptions{}, &tls.Config{
			MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384},
		}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.client.RootCAs = ca.Pool()
			test.client.ServerName = "localhost"
			o := connect(t, test.client, server(t, cert, test.server))
			if o.ok() != test.ok {
				t.Errorf("client: %v, server: %v", o.clientErr, o.serverErr)
			}
		})
	}
}

func TestCompatibleProfileTakesOldClientsWithForwardSecrecyAlone(t *testing.T) {
	ca := proxytest.NewCA(t)
	cbc := []uint16{
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256,
	}
	rsaKeyExchange := []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA, tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
	for name, test := range map[string]struct {
		min, max uint16
		suites   []uint16
		ok       bool
	}{
		"TLS 1.0":                   {tls.VersionTLS10, tls.VersionTLS10, cbc, true},
		"TLS 1.1":                   {tls.VersionTLS11, tls.VersionTLS11, cbc, true},
		"TLS 1.2 with CBC":          {tls.VersionTLS12, tls.VersionTLS12, cbc, false},
		"TLS 1.0 to 1.2 with CBC":   {tls.VersionTLS10, tls.VersionTLS12, cbc, false},
		"TLS 1.2":                   {tls.VersionTLS10, tls.VersionTLS12, nil, true},
		"TLS 1.3":                   {tls.VersionTLS13, tls.VersionTLS13, nil, true},
		"TLS 1.0, RSA key exchange": {tls.VersionTLS10, tls.VersionTLS10, rsaKeyExchange, false},
		"TLS 1.2, RSA key exchange": {tls.VersionTLS12, tls.VersionTLS12, rsaKeyExchange, false},
		"TLS 1.0, 3DES":             {tls.VersionTLS10, tls.VersionTLS10, []uint16{tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA}, false},
	} {
		for _, key := range []bool{true, false} {
			cert := ca.Issue(t, proxytest.CertOptions{RSA: key})
			s := server(t, cert, tlsconf.ServerOptions{Compatible: true})
			new(tlsconf.Tickets).Attach(s)
			c := &tls.Config{
				RootCAs: ca.Pool(), ServerName: "localhost", MinVersion: test.min, MaxVersion: test.max, CipherSuites: test.suites,
				ClientSessionCache: tls.NewLRUClientSessionCache(0),
			}
			for range 2 {
				o := connect(t, c, s)
				if o.ok() != test.ok {
					t.Errorf("%s: client: %v, server: %v", name, o.clientErr, o.serverErr)
				}
				if o.server.DidResume && test.max < tls.VersionTLS12 {
					t.Errorf("%s: resumed", name)
				}
			}
		}
	}
}

func TestPostQuantumKeyExchangeIsOnByDefault(t *testing.T) {
	ca, dir := proxytest.NewCA(t), t.TempDir()
	cert := ca.Issue(t, proxytest.CertOptions{})
	roots := ca.WritePEM(t, dir)
	listener := server(t, cert, tlsconf.ServerOptions{})
	for name, test := range map[string]struct {
		client, server *tls.Config
		want           tls.CurveID
	}{
		"a client that has it":          {&tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"}, listener, tls.X25519MLKEM768},
		"a client that has it not":      {&tls.Config{RootCAs: ca.Pool(), ServerName: "localhost", CurvePreferences: []tls.CurveID{tls.X25519}}, listener, tls.X25519},
		"a client that prefers another": {&tls.Config{RootCAs: ca.Pool(), ServerName: "localhost", CurvePreferences: []tls.CurveID{tls.CurveP256, tls.X25519MLKEM768}}, listener, tls.X25519MLKEM768},
		"a backend that has it":         {client(t, tlsconf.ClientOptions{ServerName: "localhost", CAFile: roots}), backend(cert), tls.X25519MLKEM768},
	} {
		o := connect(t, test.client, test.server)
		if !o.ok() || o.server.CurveID != test.want {
			t.Errorf("%s: %v, want %v; client: %v, server: %v", name, o.server.CurveID, test.want, o.clientErr, o.serverErr)
		}
	}
}

func TestNoOCSPResponseIsStapled(t *testing.T) {
	ca := proxytest.NewCA(t)
	s := server(t, ca.Issue(t, proxytest.CertOptions{}), tlsconf.ServerOptions{})
	o := connect(t, &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"}, s)
	if !o.ok() || len(o.client.OCSPResponse) > 0 {
		t.Errorf("%d bytes; client: %v, server: %v", len(o.client.OCSPResponse), o.clientErr, o.serverErr)
	}
}

func TestOtherProtocolsAreRefusedByALPN(t *testing.T) {
	ca := proxytest.NewCA(t)
	config := server(t, ca.Issue(t, proxytest.CertOptions{}), tlsconf.ServerOptions{})
	for name, test := range map[string]struct {
		offered []string
		ok      bool
		want    string
	}{
		"none":            {nil, true, ""},
		"imap":            {[]string{"imap"}, true, "imap"},
		"imap and others": {[]string{"h2", "http/1.1", "imap"}, true, "imap"},
		"http/1.1":        {[]string{"http/1.1"}, false, ""},
		"h2 and http/1.1": {[]string{"h2", "http/1.1"}, false, ""},
		"pop3":            {[]string{"pop3"}, false, ""},
		"IMAP":            {[]string{"IMAP"}, false, ""},
		"acme-tls/1":      {[]string{"acme-tls/1"}, false, ""},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+", "+tls.VersionName(version), func(t *testing.T) {
				o := connect(t, &tls.Config{
					RootCAs: ca.Pool(), ServerName: "localhost", NextProtos: test.offered, MaxVersion: version,
				}, config)
				if o.ok() != test.ok {
					t.Fatalf("client: %v, server: %v", o.clientErr, o.serverErr)
				}
				if got := o.server.NegotiatedProtocol; got != test.want {
					t.Errorf("negotiated %q, want %q", got, test.want)
				}
			})
		}
	}
}

func TestSessionsAreResumedUnlessClientCertificatesAreAskedFor(t *testing.T) {
	ca := proxytest.NewCA(t)
	cert := ca.Issue(t, proxytest.CertOptions{})
	clientCert := ca.Issue(t, proxytest.CertOptions{Client: true, Emails: []string{"alice@example.org"}})
	for name, test := range map[string]struct {
		auth    tls.ClientAuthType
		resumed bool
	}{
		"no client certificates":        {tls.NoClientCert, true},
		"client certificates requested": {tls.VerifyClientCertIfGiven, false},
		"client certificates required":  {tls.RequireAndVerifyClientCert, false},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+", "+tls.VersionName(version), func(t *testing.T) {
				o := tlsconf.ServerOptions{ClientAuth: test.auth}
				if test.auth != tls.NoClientCert {
					o.ClientCAs = ca.Pool()
				}
				s := server(t, cert, o)
				c := &tls.Config{
					RootCAs: ca.Pool(), ServerName: "localhost", MaxVersion: version,
					Certificates:       []tls.Certificate{clientCert},
					ClientSessionCache: tls.NewLRUClientSessionCache(0),
				}
				for i := range 3 {
					o := connect(t, c, s)
					if !o.ok() {
						t.Fatal(o.clientErr, o.serverErr)
					}
					if want := test.resumed && i > 0; o.server.DidResume != want {
						t.Errorf("connection %d: resumed is %v, want %v", i, o.server.DidResume, want)
					}
					if want := test.auth != tls.NoClientCert; (len(o.server.VerifiedChains) > 0) != want {
						t.Errorf("connection %d: %d verified chains", i, len(o.server.VerifiedChains))
					}
				}
			})
		}
	}
}

func TestClientCertificatesAreVerified(t *testing.T) {
	ca, foreign := proxytest.NewCA(t), proxytest.NewCA(t)
	cert := ca.Issue(t, proxytest.CertOptions{})
	long := time.Date(2001, time.January, 1, 0, 0, 0, 0, time.UTC)
	certs := map[string]*tls.Certificate{"none": nil}
	for name, c := range map[string]tls.Certificate{
		"good":           ca.Issue(t, proxytest.CertOptions{Client: true}),
		"foreign":        foreign.Issue(t, proxytest.CertOptions{Client: true}),
		"expired":        ca.Issue(t, proxytest.CertOptions{Client: true, NotAfter: long}),
		"for servers":    ca.Issue(t, proxytest.CertOptions{}),
		"server's own":   cert,
		"without a root": {Certificate: [][]byte{foreign.Certificate.Raw}, PrivateKey: cert.PrivateKey},
	} {
		certs[name] = &c
	}
	for auth, good := range map[tls.ClientAuthType][]string{
		tls.VerifyClientCertIfGiven:    {"good", "none"},
		tls.RequireAndVerifyClientCert: {"good"},
	} {
		s := server(t, cert, tlsconf.ServerOptions{ClientAuth: auth, ClientCAs: ca.Pool()})
		for name, c := range certs {
			t.Run(auth.String()+", "+name, func(t *testing.T) {
				config := &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"}
				if c != nil {
					config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c, nil }
				}
				o := connect(t, config, s)
				want := false
				for _, g := range good {
					want = want || g == name
				}
				if o.ok() != want {
					t.Errorf("client: %v, server: %v", o.clientErr, o.serverErr)
				}
			})
		}
	}
}

// crypto/tls has let connections through that had skipped the verification; the
// last look must not depend on it.
func TestLastLookAtClientCertificateFailsClosed(t *testing.T) {
	ca, foreign := proxytest.NewCA(t), proxytest.NewCA(t)
	good := ca.Issue(t, proxytest.CertOptions{Client: true}).Leaf
	bad := foreign.Issue(t, proxytest.CertOptions{Client: true}).Leaf
	chains := func(leaf *x509.Certificate, ca *proxytest.CA) [][]*x509.Certificate {
		return [][]*x509.Certificate{{leaf, ca.Certificate}}
	}
	tests := map[string]struct {
		auth  tls.ClientAuthType
		state tls.ConnectionState
		ok    bool
	}{
		"verified":            {tls.RequireAndVerifyClientCert, tls.ConnectionState{PeerCertificates: []*x509.Certificate{good}, VerifiedChains: chains(good, ca)}, true},
		"none, required":      {tls.RequireAndVerifyClientCert, tls.ConnectionState{}, false},
		"none, requested":     {tls.VerifyClientCertIfGiven, tls.ConnectionState{}, true},
		"chain missing":       {tls.VerifyClientCertIfGiven, tls.ConnectionState{PeerCertificates: []*x509.Certificate{good}}, false},
		"chain of another CA": {tls.VerifyClientCertIfGiven, tls.ConnectionState{PeerCertificates: []*x509.Certificate{bad}, VerifiedChains: chains(bad, foreign)}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := server(t, ca.Issue(t, proxytest.CertOptions{}), tlsconf.ServerOptions{ClientAuth: test.auth, ClientCAs: ca.Pool()})
			if err := c.VerifyConnection(test.state); (err == nil) != test.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestUnsafeServerOptionsAreRefused(t *testing.T) {
	ca := proxytest.NewCA(t)
	certificates := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return new(tls.Certificate), nil }
	for name, o := range map[string]tlsconf.ServerOptions{
		"no certificate":                {},
		"TLS 1.1":                       {Certificates: certificates, MinVersion: tls.VersionTLS11},
		"unknown version":               {Certificates: certificates, MinVersion: tls.VersionTLS13 + 1},
		"certificate that is not asked": {Certificates: certificates, ClientAuth: tls.RequestClientCert, ClientCAs: ca.Pool()},
		"any certificate":               {Certificates: certificates, ClientAuth: tls.RequireAnyClientCert, ClientCAs: ca.Pool()},
		"no CA, request":                {Certificates: certificates, ClientAuth: tls.VerifyClientCertIfGiven},
		"no CA, require":                {Certificates: certificates, ClientAuth: tls.RequireAndVerifyClientCert},
		"old clients and TLS 1.3":       {Certificates: certificates, MinVersion: tls.VersionTLS13, Compatible: true},
		"old clients and certificates":  {Certificates: certificates, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: ca.Pool(), Compatible: true},
		"unknown authentication":        {Certificates: certificates, ClientAuth: 17, ClientCAs: ca.Pool()},
	} {
		if _, err := tlsconf.Server(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
