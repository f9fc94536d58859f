package tlsconf

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Pair names the files of one certificate: Cert holds the certificate followed
// by its intermediates, Key its private key, both in PEM.
type Pair struct {
	Cert, Key string
}

// Files serves certificates from files. It is safe for concurrent use; lookups
// take no lock and always see one complete set.
type Files struct {
	pairs []Pair // static

	current atomic.Pointer[set]

	// mu makes reloads take turns, files included: of two at once, the one
	// that read the older files must not come last. Lookups never wait for it.
	mu sync.Mutex
}

// set is everything loaded at one time. It is never modified.
type set struct {
	loaded   []*loadedPair                 // one for each of Files.pairs
	problems []error                       // why loaded[i] is older than its files; nil where it is not
	exact    map[string][]*tls.Certificate // by host name in lower case
	wildcard map[string][]*tls.Certificate // "example.org" for *.example.org
	fallback []*tls.Certificate            // the first pair, then those that share a name with it
}

// NewFiles loads the pairs. At least one is needed, and each must be usable; the
// error names every file that is not. A certificate that is expired, or not
// valid yet, is usable: see [Files.Info].
func NewFiles(pairs []Pair) (*Files, error) {
	if len(pairs) == 0 {
		return nil, errors.New("no certificate configured")
	}
	f := &Files{pairs: slices.Clone(pairs)}
	loaded := make([]*loadedPair, len(pairs))
	var problems []error
	for i, p := range f.pairs {
		var err error
		if loaded[i], err = loadPair(p); err != nil {
			problems = append(problems, err)
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	f.current.Store(newSet(loaded, make([]error, len(pairs))))
	return f, nil
}

func newSet(loaded []*loadedPair, problems []error) *set {
	s := &set{
		loaded:   loaded,
		problems: problems,
		exact:    make(map[string][]*tls.Certificate),
		wildcard: make(map[string][]*tls.Certificate),
	}
	first := loaded[0]
	for i, l := range loaded {
		for _, name := range l.names {
			if parent, ok := strings.CutPrefix(name, "*."); ok {
				s.wildcard[parent] = append(s.wildcard[parent], l.cert)
			} else {
				s.exact[name] = append(s.exact[name], l.cert)
			}
		}
		shared := func(name string) bool { return slices.Contains(first.names, name) }
		if i == 0 || slices.ContainsFunc(l.names, shared) {
			s.fallback = append(s.fallback, l.cert)
		}
	}
	return s
}

// GetCertificate chooses the certificate for a handshake, as
// [tls.Config.GetCertificate] wants it: those for the very name that the client
// asks for come before wildcards, which stand for one label. A client that asks
// for no name, or for one that no certificate has, gets the first pair. Where
// several would do, RSA and ECDSA ones for the same name, it is the first that
// the client supports; one that has expired or is not valid yet is served only
// where no other would do.
func (f *Files) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	s := f.current.Load()
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))

	// The names have been compared here, by the same rules for all three
	// lists; SupportsCertificate would refuse the first pair for its name.
	nameless := *hello
	nameless.ServerName = ""

	exact, wildcard := s.exact[name], s.wildcard[parentDomain(name)]
	if len(exact)+len(wildcard) == 0 {
		exact = s.fallback
	}
	now := time.Now()
	var stale *tls.Certificate
	for _, candidates := range [...][]*tls.Certificate{exact, wildcard} {
		for _, c := range candidates {
			switch {
			case nameless.SupportsCertificate(c) != nil:
			case validity(c.Leaf, now) == "":
				return c, nil
			case stale == nil:
				stale = c
			}
		}
	}
	if stale != nil {
		return stale, nil
	}
	// None that the client supports: the handshake will fail, and say why.
	if len(exact) > 0 {
		return exact[0], nil
	}
	return wildcard[0], nil
}

func parentDomain(name string) string {
	_, parent, _ := strings.Cut(name, ".")
	return parent
}

// Reload reads all files again. Each pair is replaced as a whole or not at all:
// one that cannot be used keeps its old certificate and key, and the error names
// it and says why. A certificate that has expired, or is not valid yet, does not
// replace one that is valid. Handshakes under way finish with what they began
// with.
func (f *Files) Reload() error {
	_, err := f.reload()
	return err
}

// reload reports, besides what Reload does, whether any pair was replaced.
func (f *Files) reload() (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	old := f.current.Load()
	loaded := slices.Clone(old.loaded)
	problems := make([]error, len(f.pairs))
	for i, p := range f.pairs {
		l, err := loadPair(p)
		if err == nil {
			err = l.worseThan(loaded[i], p)
		}
		switch {
		case err != nil:
			problems[i] = staysInUse(err)
		case l.sum != loaded[i].sum:
			loaded[i] = l
			changed = true
		}
	}
	f.current.Store(newSet(loaded, problems))
	return changed, errors.Join(problems...)
}

// Inherit does, when these files take the place of others, what Reload does: a
// pair of the same names that is valid stays in use where the one read since is
// not.
func (f *Files) Inherit(before *Files) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, old := f.current.Load(), before.current.Load()
	loaded, problems := slices.Clone(now.loaded), slices.Clone(now.problems)
	for i, p := range f.pairs {
		j := slices.Index(before.pairs, p)
		if j < 0 {
			continue
		}
		if err := loaded[i].worseThan(old.loaded[j], p); err != nil {
			loaded[i], problems[i] = old.loaded[j], staysInUse(err)
		}
	}
	f.current.Store(newSet(loaded, problems))
}

// staysInUse says what comes of an error.
func staysInUse(err error) error { return fmt.Errorf("%w; the one loaded before stays in use", err) }

// fileNames implements [Watched].
func (f *Files) fileNames() []string {
	var names []string
	for _, p := range f.pairs {
		names = append(names, p.Cert, p.Key)
	}
	return names
}

// Info describes one pair as it is in use.
type Info struct {
	Pair

	Names     []string // DNS names and addresses that the certificate is for
	KeyType   string   // "RSA", "ECDSA" or "Ed25519"
	NotBefore time.Time
	NotAfter  time.Time

	// Problem is why the last reload kept this certificate although its files
	// may be newer; nil when it did not.
	Problem error
}

// Warning says in plain words what is wrong with serving this certificate at
// the given time: that it has expired, or is not valid yet. It is empty when
// nothing is.
func (i Info) Warning(now time.Time) string {
	if text := outside(i.NotBefore, i.NotAfter, now); text != "" {
		return "certificate " + i.Cert + ": " + text
	}
	return ""
}

// Info describes the pairs in use, in the order in which they were configured.
func (f *Files) Info() []Info {
	s := f.current.Load()
	infos := make([]Info, len(s.loaded))
	for i, l := range s.loaded {
		leaf := l.cert.Leaf
		names := slices.Clone(l.names)
		for _, ip := range leaf.IPAddresses {
			names = append(names, ip.String())
		}
		infos[i] = Info{
			Pair:      f.pairs[i],
			Names:     names,
			KeyType:   leaf.PublicKeyAlgorithm.String(),
			NotBefore: leaf.NotBefore,
			NotAfter:  leaf.NotAfter,
			Problem:   s.problems[i],
		}
	}
	return infos
}
