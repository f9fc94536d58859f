package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	"go.uber.org/zap"
)

// demoCertificate makes a certificate for this machine, good for a week, and
// writes it and its key to dir. It is its own authority.
func demoCertificate(dir string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "imapgate demo"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(7 * 24 * time.Hour),
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	err = errors.Join(
		os.WriteFile(filepath.Join(dir, "cert.pem"), certPEM, 0o600),
		os.WriteFile(filepath.Join(dir, "key.pem"), keyPEM, 0o600),
	)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(certPEM, keyPEM)
}

// demoBackend is an IMAP server in memory.
type demoBackend struct {
	name     string
	listener net.Listener
	server   *imapserver.Server
	log      atomic.Pointer[zap.Logger]
	serving  sync.WaitGroup
}

// startDemoBackends starts mail1, with TLS from the first byte, and mail2, with
// STARTTLS, on loopback ports of the system's choice.
func startDemoBackends(ctx context.Context, cert tls.Certificate) (*demoBackends, error) {
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	all := new(demoBackends)
	for _, b := range []struct {
		name, user string
		startTLS   bool
	}{{"mail1", "alice@example.org", false}, {"mail2", "bob@example.org", true}} {
		backend, err := startDemoBackend(ctx, b.name, b.user, conf, b.startTLS)
		if err != nil {
			all.close()
			return nil, err
		}
		all.list = append(all.list, backend)
	}
	return all, nil
}

func startDemoBackend(ctx context.Context, name, user string, conf *tls.Config, startTLS bool) (*demoBackend, error) {
	mail := imapmemserver.NewUser(user, demoPassword)
	for _, mailbox := range []string{"INBOX", "Drafts", "Sent", "Trash"} {
		if err := errors.Join(mail.Create(mailbox, nil), mail.Subscribe(mailbox)); err != nil {
			return nil, err
		}
	}
	for _, m := range demoMail(name, user, time.Now()) {
		_, err := mail.Append("INBOX", literal{bytes.NewReader(m.text)}, &imap.AppendOptions{Flags: m.flags, Time: m.received})
		if err != nil {
			return nil, err
		}
	}
	accounts := imapmemserver.New()
	accounts.AddUser(mail)

	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &demoBackend{name: name, listener: l}
	b.log.Store(zap.NewNop())
	b.server = imapserver.New(&imapserver.Options{
		NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			return accounts.NewSession(), nil, nil
		},
		Caps:      imap.CapSet{imap.CapIMAP4rev1: {}, imap.CapIMAP4rev2: {}},
		TLSConfig: conf,
		Logger:    printfLog{b},
	})
	serving := l
	if !startTLS {
		serving = tls.NewListener(l, conf)
	}
	b.serving.Go(func() {
		if err := b.server.Serve(serving); err != nil {
			b.log.Load().Error("demo server ended", zap.Error(err))
		}
	})
	return b, nil
}

func (b *demoBackend) close() {
	_ = b.server.Close()
	_ = b.listener.Close()
	b.serving.Wait()
}

// printfLog takes what the server of go-imap has to say, which is about clients
// that went away.
type printfLog struct{ b *demoBackend }

// Printf implements [imapserver.Logger].
func (l printfLog) Printf(format string, args ...any) {
	l.b.log.Load().Debug("demo server", zap.String("said", fmt.Sprintf(format, args...)))
}

// literal is a message for APPEND.
type literal struct{ *bytes.Reader }

// Size implements [imap.LiteralReader].
func (l literal) Size() int64 { return l.Reader.Size() }
