package tlsconf

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// maxFileSize bounds what is read of a file. A chain is a few KiB, a bundle of
// all public authorities about 250.
const maxFileSize = 4 << 20

// fileError is a problem with one file, in plain words.
type fileError struct {
	what    string // "certificate", "key", "CA"
	name    string
	problem string
	err     error // may be nil
}

func (e *fileError) Error() string { return e.what + " " + e.name + ": " + e.problem }
func (e *fileError) Unwrap() error { return e.err }

// loadedPair is one certificate with its key, as read from its files.
type loadedPair struct {
	cert  *tls.Certificate  // with Leaf
	names []string          // DNS names in lower case
	sum   [sha256.Size]byte // of both files, to tell whether they have changed
}

func loadPair(p Pair) (*loadedPair, error) {
	if p.Key == "" {
		return nil, &fileError{what: "certificate", name: p.Cert, problem: "no key file is configured for it"}
	}
	certPEM, certErr := readFile("certificate", p.Cert)
	keyPEM, keyErr := readFile("key", p.Key)
	if err := errors.Join(certErr, keyErr); err != nil {
		return nil, err
	}
	defer clear(keyPEM)

	chain, certErr := parseCertificates("certificate", p.Cert, certPEM)
	key, keyErr := parseKey(p.Key, keyPEM)
	if err := errors.Join(certErr, keyErr); err != nil {
		return nil, err
	}
	if err := matchKey(p, chain, key); err != nil {
		return nil, err
	}
	cert := &tls.Certificate{PrivateKey: forHandshakes(key), Leaf: chain[0]}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	certSum, keySum := sha256.Sum256(certPEM), sha256.Sum256(keyPEM)
	return &loadedPair{
		cert:  cert,
		names: hostNames(chain[0]),
		sum:   sha256.Sum256(append(certSum[:], keySum[:]...)),
	}, nil
}

// worseThan returns why a pair must not replace another one that is in use: it
// is not valid now, and the other one is.
func (l *loadedPair) worseThan(inUse *loadedPair, p Pair) error {
	now := time.Now()
	problem := validity(l.cert.Leaf, now)
	if problem == "" || validity(inUse.cert.Leaf, now) != "" {
		return nil
	}
	return &fileError{what: "certificate", name: p.Cert, problem: problem}
}

// validity says in plain words why a certificate is not valid at a time; it is
// empty when it is.
func validity(leaf *x509.Certificate, now time.Time) string {
	return outside(leaf.NotBefore, leaf.NotAfter, now)
}

func outside(notBefore, notAfter, now time.Time) string {
	const day = "2006-01-02 15:04 MST"
	switch {
	case now.After(notAfter):
		return "expired on " + notAfter.UTC().Format(day)
	case now.Before(notBefore):
		return "not valid before " + notBefore.UTC().Format(day)
	}
	return ""
}

// hostNames are the names that clients may ask for. The common name counts for
// certificates without any alternative name, as it does for the old clients
// that are the reason to still have such a certificate.
func hostNames(leaf *x509.Certificate) []string {
	names := leaf.DNSNames
	if len(names) == 0 && len(leaf.IPAddresses) == 0 && leaf.Subject.CommonName != "" {
		names = []string{leaf.Subject.CommonName}
	}
	lower := make([]string, len(names))
	for i, n := range names {
		lower[i] = strings.ToLower(n)
	}
	return lower
}

// readFile reads one file; what says in errors what it was to hold.
func readFile(what, name string) ([]byte, error) {
	problem := func(text string, err error) error {
		return &fileError{what: what, name: name, problem: text, err: err}
	}
	if name == "" {
		return nil, &fileError{what: what, name: "file", problem: "no name is configured"}
	}
	// A pipe or a device would block the open.
	st, err := os.Stat(name)
	if err == nil && st.IsDir() {
		return nil, problem("is a directory, not a file", nil)
	}
	if err == nil && !st.Mode().IsRegular() {
		return nil, problem("is not a regular file", nil)
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(name) //nolint:gosec // the operator names the files
	}
	if err != nil {
		return nil, problem(explain(name, err), err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	switch {
	case err != nil:
		return nil, problem(explain(name, err), err)
	case len(data) > maxFileSize:
		return nil, problem(fmt.Sprintf("is larger than %d bytes", maxFileSize), nil)
	case len(data) == 0:
		return nil, problem("is empty", nil)
	}
	return data, nil
}

// explain says in plain words why a file could not be read.
func explain(name string, err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if target, linkErr := os.Readlink(name); linkErr == nil {
			return "is a link to " + target + ", which does not exist"
		}
		return "no such file"
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("permission denied: the user that imapgate runs as (uid %d) must be able to read it and to enter its directories", os.Getuid())
	}
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err.Error()
	}
	return err.Error()
}

// parseCertificates returns the certificates of a PEM file, at least one.
func parseCertificates(what, name string, data []byte) ([]*x509.Certificate, error) {
	problem := func(text string, err error) error {
		return &fileError{what: what, name: name, problem: text, err: err}
	}
	var certs []*x509.Certificate
	var others []string
	blocks := 0
	for rest := data; ; blocks++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			others = append(others, block.Type)
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, problem(fmt.Sprintf("certificate %d of the file does not parse: %v", len(certs)+1, err), err)
		}
		certs = append(certs, c)
	}
	switch {
	case blocks < begun(data):
		// What is missing may be an intermediate, without which most clients
		// refuse the certificate.
		return nil, problem("holds a PEM block that is cut off or damaged; is it still being written?", nil)
	case len(certs) > 0:
		return certs, nil
	case len(others) > 0:
		return nil, problem("holds no certificate but "+strings.Join(others, ", ")+"; are the files swapped?", nil)
	}
	return nil, problem(noPEM(data), nil)
}

// begun counts the PEM blocks that begin, whether or not they end.
func begun(data []byte) int {
	n := 0
	for line := range bytes.Lines(data) {
		if bytes.HasPrefix(line, []byte("-----BEGIN ")) {
			n++
		}
	}
	return n
}

// noPEM words the want of any PEM block.
func noPEM(data []byte) string {
	if len(data) > 0 && data[0] == 0x30 { // the tag that DER begins with
		return "holds no PEM block; it looks like DER, which `openssl` converts"
	}
	return "holds no PEM block (-----BEGIN …)"
}

// parseKey returns the first private key of a PEM file.
func parseKey(name string, data []byte) (crypto.Signer, error) {
	problem := func(text string, err error) error {
		return &fileError{what: "key", name: name, problem: text, err: err}
	}
	var others []string
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			return nil, problem("is encrypted with a passphrase, which nobody could enter; store it without one", nil)
		case block.Type == "PRIVATE KEY" || strings.HasSuffix(block.Type, " PRIVATE KEY"):
			key, err := parseKeyDER(block.Bytes)
			clear(block.Bytes)
			if err != nil {
				return nil, problem("does not parse: "+err.Error(), err)
			}
			return key, nil
		}
		others = append(others, block.Type)
	}
	if len(others) > 0 {
		return nil, problem("holds no private key but "+strings.Join(others, ", ")+"; are the files swapped?", nil)
	}
	return nil, problem(noPEM(data), nil)
}

// parseKeyDER tries the encodings that are found in the wild, whatever the PEM
// block calls itself, as crypto/tls does.
func parseKeyDER(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		if rsaKey, rsaErr := x509.ParsePKCS1PrivateKey(der); rsaErr == nil {
			return rsaKey, nil
		}
		if ecKey, ecErr := x509.ParseECPrivateKey(der); ecErr == nil {
			return ecKey, nil
		}
		return nil, err
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return k, nil
	case *ecdsa.PrivateKey:
		return k, nil
	case ed25519.PrivateKey:
		return k, nil
	}
	return nil, fmt.Errorf("a key of type %T is of no use in TLS", key)
}

// matchKey checks that the key is that of the first certificate.
func matchKey(p Pair, chain []*x509.Certificate, key crypto.Signer) error {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if ok && public.Equal(chain[0].PublicKey) {
		return nil
	}
	for i, c := range chain[1:] {
		if ok && public.Equal(c.PublicKey) {
			return &fileError{what: "certificate", name: p.Cert, problem: fmt.Sprintf(
				"the certificate of key %s is number %d of the file; it must come first, then its intermediates", p.Key, i+2,
			)}
		}
	}
	return &fileError{what: "key", name: p.Key, problem: "does not belong to certificate " + p.Cert}
}

// CAPool reads the certificate authorities of a PEM file, for
// [ServerOptions.ClientCAs]. A file without a certificate is an error.
func CAPool(file string) (*x509.CertPool, error) {
	data, err := readFile("CA", file)
	if err != nil {
		return nil, err
	}
	certs, err := parseCertificates("CA", file, data)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, nil
}
