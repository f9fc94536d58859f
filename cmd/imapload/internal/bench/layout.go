//go:build linux

package bench

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"embed"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"text/template"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed templates
var templateFiles embed.FS

var templates = template.Must(template.ParseFS(templateFiles, "templates/*"))

// The backend listens on several addresses, since a proxy has only some 28,000 ports
// to connect to one of them from. They differ in the last digit, in which Dovecot
// gets the hash of a user's name.
const (
	backendPrefix = "127.0.1.1"
	backendCount  = 4
)

// sources is where clients come from, for the same reason.
const sources = "127.0.0.2,127.0.0.3,127.0.0.4,127.0.0.5,127.0.0.6,127.0.0.7,127.0.0.8,127.0.0.9"

// firstPort is where the search for free ports begins, below those that the system
// gives to whoever connects.
const firstPort = 21000

// spareFiles is how many descriptors a proxy may need besides those of its sessions,
// each of which has two; imapgate keeps a sixteenth of all.
const spareFiles = 400

// layout is what all targets share. Static.
type layout struct {
	dir            string // made by newLayout; remove it
	cert, key, pem string
	files          int // descriptors that a process may have
	listenPort     int
	backendPort    int
	backendTLSPort int
	control        string
	authHTTP       string
}

// maxSessions is how many sessions a proxy of one process can hold here.
func (l *layout) maxSessions() int { return (l.files - l.files/16 - spareFiles) / 2 }

func newLayout(ctx context.Context, self string) (l *layout, err error) {
	dir, err := os.MkdirTemp("", "imapload-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	// Servers that give up root have to get in.
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // nothing in it is secret but a key that is used for minutes
		return nil, err
	}
	l = &layout{dir: dir, cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), pem: filepath.Join(dir, "both.pem")}
	if l.files, err = raiseFiles(); err != nil {
		return nil, err
	}
	if err := l.makeCertificate(); err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	for _, role := range roles {
		if err := copyProgram(self, l.self(role)[0]); err != nil {
			return nil, err
		}
	}
	ports, err := freePorts(ctx, 5)
	if err != nil {
		return nil, err
	}
	l.listenPort, l.backendPort, l.backendTLSPort = ports[0], ports[1], ports[2]
	l.control = net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[3]))
	l.authHTTP = net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[4]))
	return l, nil
}

// roles are what imapload does in a process of its own. Each has a copy of the
// program: pages that the proxy's side shared with the load would be counted by
// halves, and only as long as there is load.
var roles = []string{"load", "backend", "authhttp"}

// self returns how a command line of imapload begins.
func (l *layout) self(role string) []string { return []string{filepath.Join(l.dir, "imapload-"+role)} }

func copyProgram(from, to string) error {
	src, err := os.Open(from) //nolint:gosec // this program
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755) //nolint:gosec // a program
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

func (l *layout) remove() error { return os.RemoveAll(l.dir) }

func (l *layout) backends(port int) []string {
	var all []string
	for i := range backendCount {
		all = append(all, net.JoinHostPort(backendPrefix+strconv.Itoa(i), strconv.Itoa(port)))
	}
	return all
}

// raiseFiles raises the limit of open files as far as it goes, for the processes that
// are started from here too, and returns it.
func raiseFiles() (int, error) {
	const enough = 1 << 18
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("getrlimit: %w", err)
	}
	if limit.Max < enough { // root may be allowed to
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: enough, Max: enough}) == nil {
			return enough, nil
		}
	}
	limit.Max = min(limit.Max, enough)
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("setrlimit: %w", err)
	}
	return int(limit.Cur), nil //nolint:gosec // at most enough
}

// makeCertificate makes the certificate that every server here shows, and that
// proxies trust as a CA.
func (l *layout) makeCertificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "imap.test"}, DNSNames: []string{"imap.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	certDER, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certDER})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	return errors.Join(
		os.WriteFile(l.cert, certPEM, 0o644), //nolint:gosec // a certificate is public
		os.WriteFile(l.key, keyPEM, 0o600),
		os.WriteFile(l.pem, append(certPEM, keyPEM...), 0o600),
	)
}

// freePorts finds ports that nobody listens on.
func freePorts(ctx context.Context, n int) ([]int, error) {
	var ports []int
	// Not where another benchmark looks at the same moment.
	begin := firstPort + os.Getpid()%1000*10
	for port := begin; len(ports) < n; port++ {
		if port > begin+1000 {
			return nil, errors.New("no free ports")
		}
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp4", fmt.Sprintf(":%d", port))
		if err != nil {
			continue
		}
		_ = listener.Close()
		ports = append(ports, port)
	}
	return ports, nil
}

// parameters is what the templates are filled with.
type parameters struct {
	Dir            string
	Cert, Key, PEM string
	Listen         string
	ListenHost     string
	ListenPort     int
	Backends       []string
	BackendPrefix  string
	BackendPort    int
	BackendTLS     bool
	BigBuffers     bool
	AuthHTTP       string
	NginxModule    string
	Table          string
	Cores          int
	Files          int
	MaxSessions    int
	Root           bool
	User, Group    string
}

// parameters returns those of a target whose files are in a directory.
func (l *layout) parameters(dir string, s setup) (parameters, error) {
	p := parameters{
		Dir: dir, Cert: l.cert, Key: l.key, PEM: l.pem,
		ListenHost: "127.0.0.1", ListenPort: l.listenPort, Listen: net.JoinHostPort("127.0.0.1", strconv.Itoa(l.listenPort)),
		BackendPrefix: backendPrefix, BackendPort: l.backendPort, BackendTLS: s.backendTLS,
		AuthHTTP: l.authHTTP, NginxModule: nginxModule, Table: "",
		Cores: s.cores, Files: l.files, MaxSessions: min(l.maxSessions(), 50_000), Root: os.Getuid() == 0,
	}
	if s.backendTLS {
		p.BackendPort = l.backendTLSPort
	}
	p.Backends = l.backends(p.BackendPort)
	if p.Root {
		return p, nil
	}
	me, err := user.Current()
	if err != nil {
		return p, err
	}
	group, err := user.LookupGroupId(me.Gid)
	if err != nil {
		return p, err
	}
	p.User, p.Group = me.Username, group.Name
	return p, nil
}

// write fills a template in.
func (p parameters) write(name string) (path string, err error) {
	var text bytes.Buffer
	if err := templates.ExecuteTemplate(&text, name, p); err != nil {
		return "", err
	}
	path = filepath.Join(p.Dir, name)
	return path, os.WriteFile(path, text.Bytes(), 0o600)
}
