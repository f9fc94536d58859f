package tlsconf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

// managed is a name that has a certificate, or is to have one.
type managed struct {
	name     string
	onDemand bool

	turn  chan struct{} // has room for whoever works on the certificate
	again chan struct{} // has room for a wish to try again now
	tried chan struct{} // closed after the first attempt, whatever came of it

	mu       sync.Mutex
	first    bool      // tried is closed
	stored   bool      // there is a certificate
	problem  error     // of the last attempt
	attempts int       // that failed since one did not
	next     time.Time // of the next attempt, while there is a problem
}

// retries is what is waited after failed attempts, the last one for good. Let's
// Encrypt allows five failed validations of a name an hour.
var retries = [...]time.Duration{
	time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute, time.Hour, 2 * time.Hour, 6 * time.Hour,
}

// ErrNoSuchCertificate says that a name has no certificate that could be renewed.
var ErrNoSuchCertificate = errors.New("no certificate is obtained for that name")

// errClosed says that nothing is obtained any more.
var errClosed = errors.New("shutting down")

// add begins to manage a name, or returns it when it is managed.
func (a *ACME) add(name string, onDemand bool) *managed {
	a.mu.Lock()
	defer a.mu.Unlock()
	m := a.names[name]
	if m == nil {
		m = &managed{
			name: name, onDemand: onDemand,
			turn: make(chan struct{}, 1), again: make(chan struct{}, 1), tried: make(chan struct{}),
		}
		a.names[name] = m
	}
	return m
}

// managed returns a name that is managed, or nil.
func (a *ACME) managed(name string) *managed {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.names[name]
}

// load takes the certificate for a name from the storage. The error is
// fs.ErrNotExist when there is none.
func (a *ACME) load(ctx context.Context, name string) error {
	_, err := a.config.CacheManagedCertificate(ctx, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the stored certificate cannot be used: %w; imapgate cert renew %s replaces it", err, name)
	}
	return err
}

// keep sees to it that there is a certificate for a name. From then on the cache
// renews it.
func (a *ACME) keep(ctx context.Context, m *managed) {
	for {
		if m.isStored() {
			return
		}
		wait := a.attempt(ctx, m, a.obtain)
		if wait == 0 {
			return
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-m.again:
			t.Stop()
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// attempt does something about the certificate for a name, and tells what came of
// it. It returns how long to wait for the next attempt, 0 when none is needed.
func (a *ACME) attempt(ctx context.Context, m *managed, try func(context.Context, *managed) error) time.Duration {
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return 0
	}
	before := m.isStored()
	err := try(ctx, m)
	if ctx.Err() != nil {
		m.end()
		return 0
	}
	return a.note(m, before, err)
}

// obtain gets a certificate for a name that has none in use, from the storage or
// from the CA.
func (a *ACME) obtain(ctx context.Context, m *managed) error {
	err := a.load(ctx, m.name)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if m.onDemand && !a.orders.take(time.Now()) {
		return errTooMany
	}
	if err := a.ready(); err != nil {
		return err
	}
	if err := a.config.ObtainCertSync(own(ctx), m.name); err != nil {
		return err
	}
	return a.load(ctx, m.name)
}

// replace orders a new certificate for a name, whatever there is.
func (a *ACME) replace(ctx context.Context, m *managed) error {
	a.want(ctx)
	if err := a.ready(); err != nil {
		return err
	}
	old := a.certificates(m.name)
	// This obtains one where there is none.
	if err := a.config.RenewCertSync(own(ctx), m.name, true); err != nil {
		return err
	}
	if err := a.load(ctx, m.name); err != nil {
		return err
	}
	now := a.certificates(m.name)
	var outdated []string
	for _, c := range old {
		if len(now) > len(old) {
			outdated = append(outdated, c.Hash())
		}
	}
	a.cache.Remove(outdated)
	return nil
}

// certificates returns what is in use for exactly this name.
func (a *ACME) certificates(name string) []certmagic.Certificate {
	var list []certmagic.Certificate
	for _, c := range a.cache.AllMatchingCertificates(name) {
		if len(c.Names) > 0 && c.Names[0] == name {
			list = append(list, c)
		}
	}
	return list
}

// Renew orders a new certificate for a name, whatever there is, and waits until it
// is served. The order goes on when ctx ends.
func (a *ACME) Renew(ctx context.Context, name string) error {
	m := a.managed(name)
	if m == nil {
		return ErrNoSuchCertificate
	}
	done := make(chan error, 1)
	if !a.do(func(ctx context.Context) {
		a.attempt(ctx, m, func(ctx context.Context, m *managed) error {
			err := a.replace(ctx, m)
			done <- a.explain(m.name, err)
			return err
		})
		select {
		case m.again <- struct{}{}: // keep has nothing to do any more, or tries again
		default:
		}
	}) {
		return errClosed
	}
	select {
	case err := <-done:
		return err
	case <-a.stopped:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ownKey marks contexts of orders that report for themselves.
type ownKey struct{}

func own(ctx context.Context) context.Context { return context.WithValue(ctx, ownKey{}, true) }

// event is what the library tells about orders. Those of the cache, which renews by
// itself, are told here; an error stops them.
func (a *ACME) event(ctx context.Context, event string, data map[string]any) error {
	name, _ := data["identifier"].(string)
	m := a.managed(name)
	if m == nil || ctx.Value(ownKey{}) != nil {
		return nil
	}
	switch event {
	case "cert_obtaining":
		if m.onDemand && !a.o.OnDemand(name) {
			a.forget(name)
			return errNotAllowed
		}
		if err := a.ready(); err != nil {
			a.note(m, true, err)
			return err
		}
	case "cert_failed":
		if err, ok := data["error"].(error); ok && ctx.Err() == nil {
			a.note(m, true, err)
		}
	case "cert_obtained":
		a.note(m, true, nil)
	}
	return nil
}

// note remembers what came of an attempt, and reports it when that is news. It
// returns how long to wait for the next attempt.
func (a *ACME) note(m *managed, before bool, err error) time.Duration {
	err = a.explain(m.name, err)
	m.mu.Lock()
	was := m.problem
	m.problem = err
	wait := time.Duration(0)
	if err == nil {
		m.attempts, m.stored, m.next = 0, true, time.Time{}
	} else {
		wait = retries[min(m.attempts, len(retries)-1)]
		m.attempts++
		m.next = time.Now().Add(wait)
	}
	m.finishFirst()
	m.mu.Unlock()

	// What keeps all of them from being obtained has been told for all of them.
	var all *deafError
	news := err == nil || was == nil || was.Error() != err.Error()
	if news && !errors.As(err, &all) {
		a.o.Report(ACMEReport{Name: m.name, Renewed: before, Err: err})
	}
	return wait
}

// noteStored remembers what the storage had at the start.
func (m *managed) noteStored(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stored = err == nil
	if m.stored {
		m.finishFirst()
	}
}

// end lets nobody wait any more.
func (m *managed) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.finishFirst()
}

// finishFirst closes tried. mu is held.
func (m *managed) finishFirst() {
	if !m.first {
		m.first = true
		close(m.tried)
	}
}

func (m *managed) isStored() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stored
}
