package tlsconf_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"

	"imapgate/proxy/proxytest"
	"imapgate/tlsconf"
)

// watching runs a watch in virtual time.
type watching struct {
	t       *testing.T
	pair    tlsconf.Pair
	cert    func(host string) // replaces the pair
	events  chan fsnotify.Event
	reports chan error
}

func watch(t *testing.T, test func(w *watching)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ca, dir := proxytest.NewCA(t), t.TempDir()
		w := &watching{t: t, events: make(chan fsnotify.Event), reports: make(chan error, 64)}
		w.cert = func(host string) {
			w.pair = pair(t, dir, "c", ca.Issue(t, proxytest.CertOptions{Hosts: []string{host}}))
		}
		w.cert("one.example")
		f := files(t, w.pair)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			tlsconf.WatchSigns(ctx, []tlsconf.Watched{f}, w.events, func(_ tlsconf.Watched, err error) { w.reports <- err })
		}()
		synctest.Wait()
		test(w)
		cancel()
		<-done
	})
}

// pass lets virtual time go by.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// want checks what has been reported since the last time: "ok" or "bad".
func (w *watching) want(want ...string) {
	w.t.Helper()
	var got []string
	for len(w.reports) > 0 {
		if err := <-w.reports; err == nil {
			got = append(got, "ok")
		} else {
			got = append(got, "bad")
		}
	}
	if !slices.Equal(got, want) {
		w.t.Fatalf("got reports %q, want %q", got, want)
	}
}

func TestManySignsAreOneReload(t *testing.T) {
	watch(t, func(w *watching) {
		w.cert("two.example")
		for range 20 {
			w.events <- fsnotify.Event{}
			pass(10 * time.Millisecond)
		}
		w.want()
		pass(time.Second)
		w.want("ok")
	})
}

func TestSignsThatNeverCeaseDoNotPutOffTheReload(t *testing.T) {
	watch(t, func(w *watching) {
		w.cert("two.example")
		for range 10 {
			w.events <- fsnotify.Event{}
			pass(100 * time.Millisecond)
		}
		w.want("ok")
	})
}

func TestKeyThatComesAfterItsCertificateIsWaitedFor(t *testing.T) {
	watch(t, func(w *watching) {
		old := read(w.t, w.pair.Key)
		w.cert("two.example")
		key := read(w.t, w.pair.Key)
		write(w.t, w.pair.Key, old)
		w.events <- fsnotify.Event{}
		pass(400 * time.Millisecond)
		write(w.t, w.pair.Key, key)
		w.events <- fsnotify.Event{}
		pass(time.Second)
		w.want("ok")
	})
}

func TestChangeWithoutASignIsFoundWithinAMinute(t *testing.T) {
	watch(t, func(w *watching) {
		w.cert("two.example")
		pass(time.Minute)
		w.want("ok")
	})
}

func TestSignWithoutAChangeIsNotReported(t *testing.T) {
	watch(t, func(w *watching) {
		w.events <- fsnotify.Event{}
		pass(time.Hour)
		w.want()
	})
}

func TestBadFileIsReportedOnceAndSoIsItsRecovery(t *testing.T) {
	watch(t, func(w *watching) {
		good := read(w.t, w.pair.Key)
		write(w.t, w.pair.Key, []byte("bad"))
		pass(time.Hour)
		w.want("bad")
		if err := os.Remove(w.pair.Key); err != nil {
			w.t.Fatal(err)
		}
		pass(time.Hour)
		w.want("bad") // another problem
		write(w.t, w.pair.Key, good)
		pass(time.Hour)
		w.want("ok")
	})
}

// place is a directory in which certificates are renewed.
type place struct {
	t   *testing.T
	ca  *proxytest.CA
	dir string
}

// path returns the name of a file or directory in the place.
func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

func (p *place) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// renew writes a new certificate to tls.pem and tls.key in a directory.
func (p *place) renew(dir, host string) {
	p.t.Helper()
	p.check(os.MkdirAll(p.path(dir), 0o700))
	proxytest.WritePair(p.t, p.path(dir), "tls", p.ca.Issue(p.t, proxytest.CertOptions{Hosts: []string{host}}))
}

// link puts a link in place of whatever is there.
func (p *place) link(name, target string) {
	p.t.Helper()
	p.check(os.MkdirAll(filepath.Dir(p.path(name)), 0o700))
	p.check(os.Symlink(target, p.path(name+".new")))
	p.check(os.Rename(p.path(name+".new"), p.path(name)))
}

func TestSwappedLinksAreNoticed(t *testing.T) {
	ca := proxytest.NewCA(t)
	tests := map[string]struct {
		first, swap func(p *place) // put live/tls.pem and live/tls.key there
	}{
		"rename into place": {
			func(p *place) { p.renew("live", "one.example") },
			func(p *place) {
				p.renew("new", "two.example")
				p.check(os.Rename(p.path("new/tls.pem"), p.path("live/tls.pem")))
				p.check(os.Rename(p.path("new/tls.key"), p.path("live/tls.key")))
			},
		},
		"certbot links the files to an archive": {
			func(p *place) {
				p.renew("archive/1", "one.example")
				p.link("live/tls.pem", "../archive/1/tls.pem")
				p.link("live/tls.key", "../archive/1/tls.key")
			},
			func(p *place) {
				p.renew("archive/2", "two.example")
				p.link("live/tls.pem", "../archive/2/tls.pem")
				p.link("live/tls.key", "../archive/2/tls.key")
			},
		},
		"Kubernetes swaps a link beside the files": {
			func(p *place) {
				p.renew("live/..1", "one.example")
				p.link("live/..data", "..1")
				p.link("live/tls.pem", "..data/tls.pem")
				p.link("live/tls.key", "..data/tls.key")
			},
			func(p *place) {
				p.renew("live/..2", "two.example")
				p.link("live/..data", "..2")
			},
		},
		"files are written where links lead": {
			func(p *place) {
				p.renew("elsewhere", "one.example")
				p.link("live/tls.pem", "../elsewhere/tls.pem")
				p.link("live/tls.key", "../elsewhere/tls.key")
			},
			func(p *place) { p.renew("elsewhere", "two.example") },
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &place{t: t, ca: ca, dir: t.TempDir()}
			test.first(p)
			key := p.path("live/tls.key")
			f := files(t, tlsconf.Pair{Cert: p.path("live/tls.pem"), Key: key})

			// The first reload of a watch comes when the directories are being
			// watched; a file that is bad until then makes it report.
			good := read(t, key)
			write(t, key, []byte("bad"))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			reports := make(chan error, 8)
			done := make(chan struct{})
			go func() {
				defer close(done)
				tlsconf.Watch(ctx, []tlsconf.Watched{f}, func(_ tlsconf.Watched, err error) { reports <- err })
			}()
			if err := <-reports; err == nil {
				t.Fatal("the bad key was not reported")
			}
			write(t, key, good)
			if err := <-reports; err != nil {
				t.Fatal(err)
			}

			test.swap(p)
			for ask(t, f, modern("")) != "two.example" {
				// The last of several writes may come half a second late.
				t.Log(<-reports)
			}
			cancel()
			<-done
		})
	}
}
