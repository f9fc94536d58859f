package tlsconf_test

import (
	"crypto/tls"
	"testing"

	"imapgate/proxy/proxytest"
	"imapgate/tlsconf"
)

// outcome is how both sides saw one connection.
type outcome struct {
	client, server       tls.ConnectionState
	clientErr, serverErr error
}

func (o outcome) ok() bool { return o.clientErr == nil && o.serverErr == nil }

// connect does a handshake and passes one byte each way: with TLS 1.3 it is
// only then that the client has the session tickets, or the refusal of its
// certificate.
func connect(t *testing.T, client, server *tls.Config) outcome {
	t.Helper()
	a, b := proxytest.Pipe(proxytest.PipeOptions{})
	c, s := tls.Client(a, client), tls.Server(b, server)

	var o outcome
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer b.Close()
		if o.serverErr = exchange(s); o.serverErr == nil {
			o.server = s.ConnectionState()
		}
	}()
	if o.clientErr = exchange(c); o.clientErr == nil {
		o.client = c.ConnectionState()
	}
	a.Close()
	<-done
	return o
}

func exchange(c *tls.Conn) error {
	if err := c.Handshake(); err != nil {
		return err
	}
	if _, err := c.Write([]byte{'.'}); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 1))
	return err
}

// server returns a listener's configuration with one certificate.
func server(t *testing.T, cert tls.Certificate, o tlsconf.ServerOptions) *tls.Config {
	t.Helper()
	o.Certificates = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }
	c, err := tlsconf.Server(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// backend returns the configuration of a backend that is nothing of ours.
func backend(cert tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

func client(t *testing.T, o tlsconf.ClientOptions) *tls.Config {
	t.Helper()
	c, err := tlsconf.Client(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func pair(t *testing.T, dir, name string, cert tls.Certificate) tlsconf.Pair {
	t.Helper()
	certFile, keyFile := proxytest.WritePair(t, dir, name, cert)
	return tlsconf.Pair{Cert: certFile, Key: keyFile}
}

func files(t *testing.T, pairs ...tlsconf.Pair) *tlsconf.Files {
	t.Helper()
	f, err := tlsconf.NewFiles(pairs)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
