package tlsconf

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"
	"github.com/libdns/rfc2136"
	"go.uber.org/zap"
)

// DNSOptions says how the records of ChallengeDNS are made.
type DNSOptions struct {
	Provider string // one of DNSProviders

	// Server is the host, and port if it is not 53, that updates are sent to.
	Server string

	// KeyName, KeyAlgorithm (hmac-sha256, …) and Key (in base64) sign updates. See
	// RFC 8945.
	KeyName, KeyAlgorithm, Key string

	// Resolvers are asked for the zone of a name, and whether a record has arrived;
	// none means those of the system, and then the zone's own servers.
	Resolvers []string
}

// dnsProviders makes what changes records, by its name in the configuration. Another
// provider of libdns is its import and its line here.
func dnsProviders() map[string]func(DNSOptions) certmagic.DNSProvider {
	return map[string]func(DNSOptions) certmagic.DNSProvider{
		"rfc2136": func(o DNSOptions) certmagic.DNSProvider {
			return &rfc2136.Provider{Server: o.Server, KeyName: o.KeyName, KeyAlg: o.KeyAlgorithm, Key: o.Key}
		},
	}
}

// DNSProviders returns the names of the providers.
func DNSProviders() []string { return slices.Sorted(maps.Keys(dnsProviders())) }

// provider checks the options.
func (o *DNSOptions) provider() (certmagic.DNSProvider, error) {
	if o == nil {
		return nil, errors.New("challenge dns-01 without a DNS provider")
	}
	provide := dnsProviders()[o.Provider]
	if provide == nil {
		return nil, fmt.Errorf("DNS provider %q is unknown; there are: %s", o.Provider, strings.Join(DNSProviders(), ", "))
	}
	if o.Server == "" || o.KeyName == "" || o.Key == "" {
		return nil, errors.New("updates of DNS need a server and a key")
	}
	if _, err := base64.StdEncoding.DecodeString(o.Key); err != nil {
		return nil, errors.New("the key for updates of DNS is not base64")
	}
	full := *o
	if _, _, err := net.SplitHostPort(full.Server); err != nil {
		full.Server = net.JoinHostPort(full.Server, "53")
	}
	return provide(full), nil
}

// solver returns what answers ChallengeDNS.
func (o *DNSOptions) solver(log *zap.Logger) *certmagic.DNS01Solver {
	provider, _ := o.provider() // NewACME has looked at it
	return &certmagic.DNS01Solver{DNSManager: certmagic.DNSManager{DNSProvider: provider, Resolvers: o.Resolvers, Logger: log}}
}
