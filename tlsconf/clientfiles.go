package tlsconf

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
)

// ClientFiles is the configuration for connections to one backend, made again
// when the files of its CA, certificate or key change. It is safe for concurrent
// use.
type ClientFiles struct {
	options ClientOptions

	current atomic.Pointer[tls.Config]

	mu  sync.Mutex        // makes reloads take turns
	sum [sha256.Size]byte // of the files that current was made of; guarded by mu
}

// NewClientFiles returns what [Client] makes of the options.
func NewClientFiles(o ClientOptions) (*ClientFiles, error) {
	f := &ClientFiles{options: o}
	// The sum first: files that change in between are read again later.
	sum, sumErr := f.read()
	conf, err := Client(o)
	if err != nil {
		return nil, err
	}
	if sumErr != nil {
		return nil, sumErr
	}
	f.current.Store(conf)
	f.sum = sum
	return f, nil
}

// Config returns the configuration for a new connection. Each has its own memory
// of sessions to resume: none survives a change of what was verified, or of who
// the proxy says it is.
func (f *ClientFiles) Config() *tls.Config { return f.current.Load() }

// reload implements [Watched].
func (f *ClientFiles) reload() (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sum, sumErr := f.read()
	if sumErr == nil && sum == f.sum {
		return false, nil
	}
	conf, err := Client(f.options) // whose errors say more
	if err == nil {
		err = sumErr
	}
	if err == nil {
		err = f.worse(conf, f.current.Load())
	}
	if err != nil {
		return false, fmt.Errorf("%w; what was loaded before stays in use", err)
	}
	f.current.Store(conf)
	f.sum = sum
	return true, nil
}

// Inherit does, when these files take the place of others with the same options,
// what a change of the files does: what was loaded stays where nothing has changed,
// with the sessions to resume, and where the new client certificate is not valid and
// the one before is.
func (f *ClientFiles) Inherit(before *ClientFiles) {
	if !reflect.DeepEqual(f.options, before.options) {
		return
	}
	before.mu.Lock()
	sum, conf := before.sum, before.current.Load()
	before.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sum == sum || f.worse(f.current.Load(), conf) != nil {
		f.current.Store(conf)
		f.sum = sum
	}
}

// worse returns why a new client certificate must not replace the one in use: it
// is not valid now, and the other one is.
func (f *ClientFiles) worse(conf, inUse *tls.Config) error {
	if len(conf.Certificates) == 0 || len(inUse.Certificates) == 0 {
		return nil
	}
	next := loadedPair{cert: &conf.Certificates[0]}
	return next.worseThan(&loadedPair{cert: &inUse.Certificates[0]}, Pair{Cert: f.options.CertFile, Key: f.options.KeyFile})
}

// read returns a hash of all files.
func (f *ClientFiles) read() (sum [sha256.Size]byte, err error) {
	all := sha256.New()
	for _, name := range f.fileNames() {
		data, err := readFile("file", name)
		if err != nil {
			return sum, err
		}
		one := sha256.Sum256(data)
		clear(data)
		all.Write(one[:])
	}
	all.Sum(sum[:0])
	return sum, nil
}

// fileNames implements [Watched].
func (f *ClientFiles) fileNames() []string {
	var names []string
	for _, name := range []string{f.options.CAFile, f.options.CertFile, f.options.KeyFile} {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}
