package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"imapgate/proxy/proxytest"
)

var renewalSessions = flag.Int("renewal.sessions", 1000, "how many sessions idle in the test of renewals")

// renewal is a proxy whose certificate is renewed in all the ways there are.
type renewal struct {
	*plant
	proc *process
	ca   *proxytest.CA
	n    int // of directories

	mu     sync.Mutex
	good   map[string]bool // serial numbers of certificates that may be seen
	served map[string]int  // handshakes, by what was seen
	logins int
}

// pair issues a certificate and returns its files' contents and serial number.
func (r *renewal) pair(t *testing.T, good bool, o proxytest.CertOptions) (cert, key, serial string) {
	t.Helper()
	dir := t.TempDir()
	issued := r.ca.Issue(t, o)
	certFile, keyFile := proxytest.WritePair(t, dir, "x", issued)
	serial = issued.Leaf.SerialNumber.String()
	if good {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.good[serial] = true
	}
	return readFile(t, certFile), readFile(t, keyFile), serial
}

// write replaces the files in place, one after the other.
func (r *renewal) write(t *testing.T, cert, key string) {
	t.Helper()
	writeFiles(t, filepath.Join(r.dir, "live"), map[string]string{"tls.pem": cert, "tls.key": key})
}

// swap puts a new directory in place of the old one, as Kubernetes does.
func (r *renewal) swap(t *testing.T, cert, key string) {
	t.Helper()
	live := filepath.Join(r.dir, "live")
	r.n++
	data := fmt.Sprintf("..%d", r.n)
	if err := os.MkdirAll(filepath.Join(live, data), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFiles(t, filepath.Join(live, data), map[string]string{"tls.pem": cert, "tls.key": key})
	err := os.Symlink(data, filepath.Join(live, "..new"))
	if err = errors.Join(err, os.Rename(filepath.Join(live, "..new"), filepath.Join(live, "..data"))); err != nil {
		t.Fatal(err)
	}
}

// handshake connects and notes the certificate that it sees.
func (r *renewal) handshake(ctx context.Context) (*tls.Conn, string, error) {
	d := tls.Dialer{Config: &tls.Config{RootCAs: r.ca.Pool(), ServerName: "localhost"}}
	nc, err := d.DialContext(ctx, "tcp", r.listen[0])
	if err != nil {
		return nil, "", err
	}
	conn, ok := nc.(*tls.Conn)
	if !ok {
		return nil, "", errors.New("no TLS")
	}
	serial := conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.served[serial]++
	return conn, serial, nil
}

// login logs in and out, as every client does all the time.
func (r *renewal) login(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, _, err := r.handshake(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if _, err := fmt.Fprintf(conn, "a LOGIN alice@example.org %s\r\nb LOGOUT\r\n", demoPassword); err != nil {
		return err
	}
	var said strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(said.String(), "\r\nb OK") {
		n, err := conn.Read(buf)
		said.Write(buf[:n])
		if err != nil {
			return fmt.Errorf("%w, after %q", err, said.String())
		}
	}
	if !strings.Contains(said.String(), "\r\na OK") {
		return fmt.Errorf("refused: %q", said.String())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logins++
	return nil
}

// await makes handshakes until the certificate with the serial number is seen.
func (r *renewal) await(t *testing.T, serial string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, seen, err := r.handshake(ctx)
		if err != nil {
			t.Fatalf("the new certificate is not served: %v", err)
		}
		conn.Close()
		if seen == serial {
			return
		}
		<-tick.C
	}
}

// TestRenewalByFileLosesNoSessionAndNoLogin takes -renewal.sessions N where a thousand
// are too many.
func TestRenewalByFileLosesNoSessionAndNoLogin(t *testing.T) {
	r := &renewal{plant: newPlant(t), ca: proxytest.NewCA(t), good: make(map[string]bool), served: make(map[string]int)}
	live := filepath.Join(r.dir, "live")
	if err := os.Mkdir(live, 0o700); err != nil {
		t.Fatal(err)
	}
	cert, key, _ := r.pair(t, true, proxytest.CertOptions{})
	r.swap(t, cert, key)
	for _, name := range []string{"tls.pem", "tls.key"} {
		if err := os.Symlink("..data/"+name, filepath.Join(live, name)); err != nil {
			t.Fatal(err)
		}
	}
	text := strings.NewReplacer("cert: cert.pem", "cert: live/tls.pem", "key: cert.key", "key: live/tls.key").Replace(readFile(t, r.path()))
	writeFiles(t, r.dir, map[string]string{"imapgate.yaml": text})
	r.proc = r.serving(t)

	idle := make([]*client, *renewalSessions)
	for i := range idle {
		idle[i] = login(t, r.listen[0], "alice@example.org")
		if err := idle[i].SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprint(idle[i], "i IDLE\r\n"); err != nil {
			t.Fatal(err)
		}
		idle[i].expect(t, "+ ")
	}

	ctx, cancel := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	for range 3 {
		busy.Go(func() {
			pace := time.NewTicker(50 * time.Millisecond)
			defer pace.Stop()
			for ctx.Err() == nil {
				if err := r.login(t.Context()); err != nil {
					t.Errorf("a login failed: %v", err)
					return
				}
				select {
				case <-pace.C:
				case <-ctx.Done():
				}
			}
		})
	}
	var slowest time.Duration
	for range 4 {
		renew := func(put func(t *testing.T, cert, key string)) {
			cert, key, serial := r.pair(t, true, proxytest.CertOptions{})
			put(t, cert, key)
			began := time.Now()
			r.await(t, serial)
			slowest = max(slowest, time.Since(began))
		}
		refused := func(cert, key, why string) {
			r.write(t, cert, key)
			for {
				line := r.proc.waitLine(t, "certificates not reloaded, the old ones stay")
				if strings.Contains(fmt.Sprint(line["error"]), why) {
					return
				}
			}
		}
		renew(r.write)
		cert, _, _ := r.pair(t, false, proxytest.CertOptions{})
		_, otherKey, _ := r.pair(t, false, proxytest.CertOptions{})
		refused(cert, otherKey, "does not belong to certificate")
		cert, key, _ := r.pair(t, false, proxytest.CertOptions{})
		refused(cert[:len(cert)*2/3], key, "cut off")
		cert, key, _ = r.pair(t, false, proxytest.CertOptions{NotAfter: time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)})
		refused(cert, key, "expired on 2001-01-01")
		r.proc.signal(t, syscall.SIGHUP) // which reads everything again, this too
		r.proc.waitLine(t, "configuration reloaded")
		renew(r.swap)
	}
	cancel()
	busy.Wait()

	for i, c := range idle {
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprint(c, "DONE\r\n"); err != nil {
			t.Fatalf("session %d is lost: %v", i, err)
		}
		c.expect(t, "i OK")
		if reply := c.do(t, "NOOP"); !strings.HasPrefix(reply, "t OK") {
			t.Errorf("session %d: %s", i, reply)
		}
	}
	for serial := range maps.Keys(r.served) {
		if !r.good[serial] {
			t.Errorf("a bad certificate was served: %s", serial)
		}
	}
	if len(r.served) != len(r.good) {
		t.Errorf("%d certificates were seen, of %d", len(r.served), len(r.good))
	}
	if r.logins == 0 {
		t.Error("nobody logged in")
	}
	t.Logf("%d sessions, %d logins, 20 changes of files; a new certificate was served after %s at most", len(idle), r.logins, slowest.Round(time.Millisecond))
}
