package tlsconf

import (
	"cmp"
	"crypto/x509"
	"slices"
	"time"
)

// ACMEInfo describes the certificate for one name.
type ACMEInfo struct {
	Name     string
	OnDemand bool

	// Leaf is the certificate in use, nil when it is yet to be obtained.
	Leaf *x509.Certificate

	// Problem is why the last attempt to obtain or renew it failed, nil when it did
	// not; Next is when it is tried again.
	Problem error
	Next    time.Time
}

// Info describes all names: Domains in their order, then those on demand.
func (a *ACME) Info() []ACMEInfo {
	a.mu.Lock()
	names := make([]*managed, 0, len(a.names))
	for _, m := range a.names {
		names = append(names, m)
	}
	a.mu.Unlock()
	place := func(m *managed) int {
		if i := slices.Index(a.o.Domains, m.name); i >= 0 {
			return i
		}
		return len(a.o.Domains)
	}
	slices.SortFunc(names, func(x, y *managed) int {
		return cmp.Or(cmp.Compare(place(x), place(y)), cmp.Compare(x.name, y.name))
	})
	infos := make([]ACMEInfo, len(names))
	for i, m := range names {
		infos[i] = m.info()
		for _, c := range a.certificates(m.name) {
			if old := infos[i].Leaf; old == nil || c.Leaf.NotBefore.After(old.NotBefore) {
				infos[i].Leaf = c.Leaf
			}
		}
		if err := a.ready(); err != nil && infos[i].Leaf == nil {
			infos[i].Problem = err
		}
	}
	return infos
}

func (m *managed) info() ACMEInfo {
	m.mu.Lock()
	defer m.mu.Unlock()
	return ACMEInfo{Name: m.name, OnDemand: m.onDemand, Problem: m.problem, Next: m.next}
}

// Serving says whether there is a certificate from the CA at all; else clients see a
// self-signed one, where there are no files.
func (a *ACME) Serving() bool { return a.fallback() != a.selfSigned }
