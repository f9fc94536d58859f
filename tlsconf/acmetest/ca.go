// Package acmetest holds what tests of ACME need: a [CA], which is Pebble, the test
// server of Let's Encrypt, in this process; and a [Zone], a DNS server that takes
// signed updates. Both listen on loopback addresses only.
package acmetest

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log" //nolint:depguard // Pebble logs to nothing else
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/core"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"

	"imapgate/proxy/proxytest"
)

// Options are what a CA may differ in.
type Options struct {
	Zone     *Zone         // where it looks names up
	HTTPPort int           // the port that it asks in the place of 80
	TLSPort  int           // and of 443
	Validity time.Duration // of certificates; 0 means 90 days

	// EABKeys are the external accounts that are known, HMAC keys in base64url by
	// their id; with any, accounts must have one.
	EABKeys map[string]string
}

// CA is a certificate authority that speaks ACME.
type CA struct {
	Directory string // its URL
	RootFile  string // PEM: what vouches for the directory's own certificate
	Roots     *x509.CertPool

	issuing *ca.CAImpl
	server  *http.Server
	address string

	mu     sync.Mutex
	orders int
	down   bool
}

// NewCA starts a CA, and ends it with the test.
func NewCA(tb testing.TB, o Options) *CA {
	tb.Helper()
	tb.Setenv("PEBBLE_VA_NOSLEEP", "1")
	tb.Setenv("PEBBLE_WFE_NONCEREJECT", "0")
	tb.Setenv("PEBBLE_AUTHZREUSE", "0") // each order is validated
	if o.Validity == 0 {
		o.Validity = 90 * 24 * time.Hour
	}
	logger := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	for id, key := range o.EABKeys {
		if err := store.AddExternalAccountKeyByID(id, key); err != nil {
			tb.Fatal(err)
		}
	}
	c := &CA{issuing: ca.New(logger, store, "", "ecdsa", 0, 1, map[string]ca.Profile{
		"default": {Description: "the only one", ValidityPeriod: uint64(o.Validity.Seconds())},
	})}
	front := wfe.New(logger, store, va.New(logger, o.HTTPPort, o.TLSPort, false, o.Zone.Address, store), c.issuing,
		[]string{"ca.test"}, false, len(o.EABKeys) > 0, 0, 0)

	own := proxytest.NewCA(tb)
	cert := own.Issue(tb, proxytest.CertOptions{})
	c.Roots = own.Pool()
	c.RootFile = own.WritePEM(tb, tb.TempDir())
	l, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	c.address = l.Addr().String()
	c.Directory = "https://" + strings.Replace(c.address, "127.0.0.1", "localhost", 1) + wfe.DirectoryPath
	handler := front.Handler()
	c.server = &http.Server{
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          logger,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c.count(r.URL.Path == newOrderPath) {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			handler.ServeHTTP(w, r)
			if id, ok := strings.CutPrefix(r.URL.Path, orderPath); ok {
				index(tb, store, id)
			}
		}),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.server.ServeTLS(l, "", "")
	}()
	tb.Cleanup(func() {
		_ = c.server.Close()
		<-done
	})
	return c
}

// These are Pebble's, which does not export them.
const (
	newOrderPath = "/order-plz"
	orderPath    = "/my-order/"
)

// index adds what Pebble forgets: it looks for the order whose certificate is replaced
// by the octets of that certificate's serial number in DER, which begin with a zero when
// the first bit would be set, and it has noted the number without the zero. One renewal
// in 256 would be refused. See RFC 9773, Section 4.1.
func index(tb testing.TB, store *db.MemoryStore, id string) {
	tb.Helper()
	order := store.GetOrderByID(id)
	if order == nil {
		return
	}
	order.RLock()
	defer order.RUnlock()
	if order.CertificateObject == nil {
		return
	}
	if err := store.AddOrderByIssuedSerial(&core.Order{
		Order: order.Order, ID: order.ID, AccountID: order.AccountID,
		CertificateObject: &core.Certificate{ID: "00" + order.CertificateObject.ID},
	}); err != nil {
		tb.Error(err)
	}
}

// count counts orders, and says whether the CA is down.
func (c *CA) count(order bool) (down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if order && !c.down {
		c.orders++
	}
	return c.down
}

// Orders returns how many there were.
func (c *CA) Orders() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.orders
}

// SetDown has all requests fail, or none any more.
func (c *CA) SetDown(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
}

// Issuers returns the root of the certificates that it issues.
func (c *CA) Issuers(tb testing.TB) *x509.CertPool {
	tb.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(c.IssuersPEM()) {
		tb.Fatal("Pebble has no root certificate")
	}
	return pool
}

// IssuersPEM is the same as a file.
func (c *CA) IssuersPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.issuing.GetRootCert(0).Cert.Raw})
}
