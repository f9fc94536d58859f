package tlsconf_test

import (
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"

	"imapgate/proxy/proxytest"
	"imapgate/tlsconf"
)

// owned is a configuration for a backend with files of all kinds.
type owned struct {
	t     *testing.T
	dir   string
	files *tlsconf.ClientFiles
}

func newOwned(t *testing.T, ca *proxytest.CA, o proxytest.CertOptions) *owned {
	t.Helper()
	w := &owned{t: t, dir: t.TempDir()}
	roots := ca.WritePEM(t, w.dir)
	p := w.identity(ca, o)
	var err error
	w.files, err = tlsconf.NewClientFiles(tlsconf.ClientOptions{ServerName: "localhost", CAFile: roots, CertFile: p.Cert, KeyFile: p.Key})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// identity replaces the client certificate.
func (w *owned) identity(ca *proxytest.CA, o proxytest.CertOptions) tlsconf.Pair {
	w.t.Helper()
	o.Client = true
	return pair(w.t, w.dir, "client", ca.Issue(w.t, o))
}

// reload reads the files again.
func (w *owned) reload() (bool, string) {
	changed, err := tlsconf.Reload(w.files)
	if err != nil {
		return changed, err.Error()
	}
	return changed, ""
}

func TestBackendIsVerifiedAgainstTheFileAsItIsNow(t *testing.T) {
	before, after := proxytest.NewCA(t), proxytest.NewCA(t)
	w := newOwned(t, before, proxytest.CertOptions{})
	good := func(ca *proxytest.CA) bool {
		return connect(t, w.files.Config(), backend(ca.Issue(t, proxytest.CertOptions{}))).ok()
	}
	if !good(before) || good(after) {
		t.Error("at first, only the first authority should be trusted")
	}
	after.WritePEM(t, w.dir)
	if changed, problem := w.reload(); !changed || problem != "" {
		t.Fatal(changed, problem)
	}
	if good(before) || !good(after) {
		t.Error("then, only the second")
	}
	if changed, problem := w.reload(); changed || problem != "" {
		t.Errorf("nothing has changed: %v, %s", changed, problem)
	}
}

func TestClientCertificateThatChangesIsShownAtOnce(t *testing.T) {
	for _, version := range resuming() {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			ca := proxytest.NewCA(t)
			w := newOwned(t, ca, proxytest.CertOptions{CommonNames: []string{"before"}})
			server := &tls.Config{
				Certificates: []tls.Certificate{ca.Issue(t, proxytest.CertOptions{})}, ClientCAs: ca.Pool(),
				ClientAuth: tls.RequireAndVerifyClientCert, MaxVersion: version,
			}
			server.SetSessionTicketKeys([][32]byte{{1}})
			want := func(name string, resumed bool) {
				t.Helper()
				o := connect(t, w.files.Config(), server)
				if !o.ok() {
					t.Fatal(o.clientErr, o.serverErr)
				}
				if got := o.server.PeerCertificates[0].Subject.CommonName; got != name || o.server.DidResume != resumed {
					t.Errorf("the backend sees %s, resumed is %v; want %s, %v", got, o.server.DidResume, name, resumed)
				}
			}
			want("before", false)
			want("before", true)
			w.identity(ca, proxytest.CertOptions{CommonNames: []string{"after"}})
			want("before", true)
			if changed, problem := w.reload(); !changed || problem != "" {
				t.Fatal(changed, problem)
			}
			want("after", false) // a resumed session would be the old one's
			want("after", true)
		})
	}
}

func TestBadFilesOfABackendKeepWhatWasLoaded(t *testing.T) {
	ca := proxytest.NewCA(t)
	w := newOwned(t, ca, proxytest.CertOptions{})
	conf := w.files.Config()
	roots, cert, key := filepath.Join(w.dir, "ca.pem"), filepath.Join(w.dir, "client.pem"), filepath.Join(w.dir, "client.key")
	const stays = "; what was loaded before stays in use"
	for name, test := range map[string]struct {
		spoil func()
		want  string
	}{
		"CA is gone":          {func() { _ = os.Remove(roots) }, "CA " + roots + ": no such file"},
		"CA is garbage":       {func() { write(t, roots, []byte("x")) }, "CA " + roots + ": holds no PEM block (-----BEGIN …)"},
		"CA is half written":  {func() { write(t, roots, append(read(t, roots), read(t, roots)[:100]...)) }, "CA " + roots + ": holds a PEM block that is cut off or damaged; is it still being written?"},
		"key is another's":    {func() { write(t, key, read(t, pair(t, t.TempDir(), "x", ca.Issue(t, proxytest.CertOptions{})).Key)) }, "key " + key + ": does not belong to certificate " + cert},
		"certificate is gone": {func() { _ = os.Remove(cert) }, "certificate " + cert + ": no such file"},
		"certificate expired": {
			func() { w.identity(ca, proxytest.CertOptions{NotAfter: time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)}) },
			"certificate " + cert + ": expired on 2001-01-01 00:00 UTC",
		},
	} {
		saved := map[string][]byte{roots: read(t, roots), cert: read(t, cert), key: read(t, key)}
		test.spoil()
		if changed, problem := w.reload(); changed || problem != test.want+stays {
			t.Errorf("%s: changed is %v, got %q, want %q", name, changed, problem, test.want+stays)
		}
		if w.files.Config() != conf {
			t.Errorf("%s: the configuration has changed", name)
		}
		for file, data := range saved {
			write(t, file, data)
		}
		if changed, problem := w.reload(); changed || problem != "" {
			t.Errorf("%s, mended: changed is %v, %q", name, changed, problem)
		}
	}
}

func TestReloadOfAllKeepsWhatHasNotChanged(t *testing.T) {
	ca := proxytest.NewCA(t)
	w := newOwned(t, ca, proxytest.CertOptions{CommonNames: []string{"before"}})
	again := func(name string) *tlsconf.ClientFiles {
		files, err := tlsconf.NewClientFiles(tlsconf.ClientOptions{
			ServerName: name, CAFile: filepath.Join(w.dir, "ca.pem"),
			CertFile: filepath.Join(w.dir, "client.pem"), KeyFile: filepath.Join(w.dir, "client.key"),
		})
		if err != nil {
			t.Fatal(err)
		}
		files.Inherit(w.files)
		return files
	}
	if again("localhost").Config() != w.files.Config() {
		t.Error("nothing has changed, and the sessions are forgotten")
	}
	if again("other.example").Config() == w.files.Config() {
		t.Error("another name is verified with the old configuration")
	}
	w.identity(ca, proxytest.CertOptions{NotAfter: time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)})
	expired := again("localhost")
	if expired.Config() != w.files.Config() {
		t.Error("an expired certificate has replaced a good one")
	}
	if _, err := tlsconf.Reload(expired); err == nil {
		t.Error("that the file holds an expired certificate is not told")
	}
	w.identity(ca, proxytest.CertOptions{CommonNames: []string{"after"}})
	if got := again("localhost").Config().Certificates[0].Leaf.Subject.CommonName; got != "after" {
		t.Errorf("the certificate is that of %s", got)
	}
}

func TestOneWatchFollowsManyThings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := proxytest.NewCA(t)
		a, b := newOwned(t, ca, proxytest.CertOptions{}), newOwned(t, ca, proxytest.CertOptions{})
		names := map[tlsconf.Watched]string{a.files: "a", b.files: "b"}
		events, reports := make(chan fsnotify.Event), make(chan string, 64)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			tlsconf.WatchSigns(ctx, []tlsconf.Watched{a.files, b.files}, events, func(w tlsconf.Watched, err error) {
				if err != nil {
					reports <- names[w] + " bad"
					return
				}
				reports <- names[w] + " ok"
			})
		}()
		want := func(what string) {
			t.Helper()
			events <- fsnotify.Event{}
			pass(time.Second)
			got := ""
			for len(reports) > 0 {
				got += <-reports + ";"
			}
			if got != what {
				t.Errorf("got %q, want %q", got, what)
			}
		}
		synctest.Wait()
		want("")
		b.identity(ca, proxytest.CertOptions{})
		want("b ok;")
		a.identity(ca, proxytest.CertOptions{})
		write(t, filepath.Join(b.dir, "client.key"), []byte("bad"))
		want("a ok;b bad;")
		want("")
		b.identity(ca, proxytest.CertOptions{})
		want("b ok;")
		cancel()
		<-done
	})
}
