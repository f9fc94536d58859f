package config

import (
	"errors"
	"net"
	"net/netip"
	"path/filepath"

	"go.yaml.in/yaml/v4"
)

// overridesName is the name of the file in the state directory.
const overridesName = "overrides.json"

// maxSocketPath is what the address of a unix socket has room for.
const maxSocketPath = 107

func (p *Parsed) checkAdmin() {
	a := p.Admin
	if a == nil {
		return
	}
	if !a.Socket.Given() && !a.HTTP.Given() && !p.w.failedUnder("admin") {
		p.fail(a.Pos, "add socket: FILE, http: ADDRESS, or both", "admin says nothing: there would be no API")
	}
	if a.Socket.Given() && len(p.path(a.Socket)) > maxSocketPath {
		p.fail(a.Socket.Pos, "choose a shorter path", "admin.socket: the path of a socket has at most %d bytes", maxSocketPath)
	}
	p.pointless(a.TokenFile.Given() && !a.HTTP.Given(), a.TokenFile.Pos, "admin.token_file", "without admin.http")
	if a.HTTP.Given() && !a.TokenFile.Given() && !isLoopback(a.HTTP.V) {
		p.fail(a.HTTP.Pos, "add token_file, or listen on 127.0.0.1", "admin.http: everybody who reaches %s could end sessions", a.HTTP.V)
	}
}

// isLoopback says whether only this host can connect to an address.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return true // told already
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// SocketPath returns the unix socket of the API, "" when there is none.
func (p *Parsed) SocketPath() string {
	if p.Admin == nil || !p.Admin.Socket.Given() {
		return ""
	}
	return p.path(p.Admin.Socket)
}

// AdminAddress returns the TCP address of the API, "" when there is none.
func (p *Parsed) AdminAddress() string {
	if p.Admin == nil {
		return ""
	}
	return p.Admin.HTTP.V
}

// TokenPath returns the file of the API's tokens, "" when there is none.
func (p *Parsed) TokenPath() string {
	if p.Admin == nil || !p.Admin.TokenFile.Given() {
		return ""
	}
	return p.path(p.Admin.TokenFile)
}

// OverridesPath returns the file that changes of operators are kept in, "" when
// they are not kept.
func (p *Parsed) OverridesPath() string {
	if !p.StateDir.Given() {
		return ""
	}
	return filepath.Join(p.path(p.StateDir), overridesName)
}

// errNoSocket says that a configuration names no socket.
var errNoSocket = errors.New("it has no admin.socket")

// FindSocket returns the unix socket of the API that a configuration file names,
// whatever else is wrong with it: who asks a running imapgate does not want to
// hear of a file that is being edited. It may be read by others than those who
// may read the secrets that it refers to.
func FindSocket(name string, src Sources) (string, error) {
	return find(name, src, errNoSocket, func(f *sought) string { return f.Admin.Socket })
}

// errNoTicketKeys says that a configuration names no ticket keys.
var errNoTicketKeys = errors.New("it has no tls.ticket_keys")

// FindTicketKeys returns the file of ticket keys that a configuration file names,
// likewise.
func FindTicketKeys(name string, src Sources) (string, error) {
	return find(name, src, errNoTicketKeys, func(f *sought) string { return f.TLS.TicketKeys })
}

// sought is what commands look for in a configuration file.
type sought struct {
	Admin struct {
		Socket string `yaml:"socket"`
	} `yaml:"admin"`
	TLS struct {
		TicketKeys string `yaml:"ticket_keys"`
	} `yaml:"tls"`
}

// find returns the file that a value names, or the error none.
func find(name string, src Sources, none error, pick func(*sought) string) (string, error) {
	text, err := src.ReadFile(name)
	if err != nil {
		return "", plainCause(err, name)
	}
	var file sought
	if err := yaml.Load(text, &file); err != nil && pick(&file) == "" {
		return "", errors.New("it is not valid YAML")
	}
	dir := filepath.Dir(name)
	path, err := src.expand(pick(&file), dir)
	switch {
	case err != nil:
		return "", err
	case path == "":
		return "", none
	}
	return resolve(dir, path), nil
}
