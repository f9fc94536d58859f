package admin

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"imapgate/tlsconf"
)

func (s *Server) certificates(*call) (*Certificates, error) {
	now := time.Now().UTC()
	return &Certificates{Now: now, Certificates: s.Site.InForce().certificates(now)}, nil
}

// certificates describes what clients see: files, then what a CA issued, then what is
// there in their place.
func (in InForce) certificates(now time.Time) []Certificate {
	list := []Certificate{}
	if in.Certificates != nil {
		for _, info := range in.Certificates.Info() {
			list = append(list, fromFile(info, now))
		}
	}
	taken := func(name string) bool {
		return slices.ContainsFunc(list, func(c Certificate) bool { return c.Source == SourceFile && covers(c.Serves, name) })
	}
	if in.ACME != nil {
		for _, info := range in.ACME.Info() {
			c := fromACME(info, now)
			c.Serves = slices.DeleteFunc(c.Serves, taken)
			if info.Leaf != nil && len(c.Serves) == 0 && c.Problem == "" {
				c.Problem = fmt.Sprintf("%s: a certificate from a file is served for this name", info.Name)
			}
			list = append(list, c)
		}
	}
	if in.selfSigned() {
		list = append(list, Certificate{Source: SourceSelfSigned, Names: []string{}, Serves: []string{}, Default: true})
		return list
	}
	if first := slices.IndexFunc(list, func(c Certificate) bool { return c.KeyType != "" && c.Source != SourceOnDemand }); first >= 0 {
		list[first].Default = true
	}
	return list
}

// covers says whether one of the names is a name, or a wildcard for it.
func covers(names []string, name string) bool {
	_, parent, _ := strings.Cut(name, ".")
	return slices.Contains(names, name) || slices.Contains(names, "*."+parent)
}

// selfSigned says whether there is nothing but a certificate of our own making.
func (in InForce) selfSigned() bool {
	return in.ACME != nil && in.Certificates == nil && !in.ACME.Serving()
}

func fromFile(info tlsconf.Info, now time.Time) Certificate {
	c := Certificate{
		Source: SourceFile, File: info.Cert, Names: append([]string{}, info.Names...), KeyType: info.KeyType,
		NotBefore: info.NotBefore, NotAfter: info.NotAfter, Problem: info.Warning(now),
	}
	c.Serves = slices.Clone(c.Names)
	if info.Problem != nil {
		c.Problem = info.Problem.Error()
	}
	return c
}

func fromACME(info tlsconf.ACMEInfo, now time.Time) Certificate {
	c := Certificate{Source: SourceACME, Names: []string{info.Name}, Serves: []string{}}
	if info.OnDemand {
		c.Source = SourceOnDemand
	}
	if leaf := info.Leaf; leaf != nil {
		c.Names, c.KeyType = append([]string{}, leaf.DNSNames...), leaf.PublicKeyAlgorithm.String()
		c.NotBefore, c.NotAfter = leaf.NotBefore, leaf.NotAfter
		c.Serves = slices.Clone(c.Names)
	}
	switch {
	case info.Problem != nil:
		c.Problem, c.Next = info.Name+": "+info.Problem.Error(), info.Next.UTC()
	case info.Leaf == nil:
		c.Problem = info.Name + ": not obtained yet"
	case now.After(c.NotAfter):
		c.Problem = info.Name + ": expired on " + c.NotAfter.UTC().Format(time.RFC3339)
	}
	return c
}

// troubles says what is wrong with certificates that does not keep new clients away,
// a line for each.
func (s *Server) troubles() []string {
	var lines []string
	for _, c := range s.Site.InForce().certificates(time.Now()) {
		if c.Problem != "" {
			lines = append(lines, "certificate of "+c.Problem)
		}
	}
	return lines
}

// certStatus is how the certificates for a name are.
type certStatus struct {
	expires time.Time // the earlier one's, where several share the name
	problem bool
}

// certs returns how certificates are, by the first name of each.
func (s *Server) certs(now time.Time) map[string]certStatus {
	all := make(map[string]certStatus)
	for _, cert := range s.Site.InForce().certificates(now) {
		if cert.Source == SourceSelfSigned {
			continue
		}
		name := cert.File
		if len(cert.Names) > 0 {
			name = cert.Names[0]
		}
		c, ok := all[name]
		if !ok || cert.NotAfter.Before(c.expires) {
			c.expires = cert.NotAfter
		}
		c.problem = c.problem || cert.Problem != ""
		all[name] = c
	}
	return all
}

// renew orders a new certificate.
func (s *Server) renew(c *call, in *RenewRequest) (*Certificate, error) {
	name := strings.ToLower(c.PathValue("name"))
	inForce := s.Site.InForce()
	if _, err := c.change(in.Why, time.Time{}); err != nil {
		return nil, err
	}
	err := tlsconf.ErrNoSuchCertificate
	if inForce.ACME != nil {
		s.changed(c, "renew certificate", name, in.Why)
		err = inForce.ACME.Renew(c.Context(), name)
	}
	switch {
	case errors.Is(err, tlsconf.ErrNoSuchCertificate):
		return nil, failf(http.StatusNotFound, "%s", inForce.noRenewal(name))
	case c.Context().Err() != nil:
		return nil, failf(http.StatusServiceUnavailable, "the order goes on: %v", err)
	case err != nil:
		s.log.Debug("renew certificate", zap.String("name", name), zap.Error(err)) // reported by who ordered it
		return nil, failf(http.StatusBadGateway, "%s: %v", name, err)
	}
	for _, cert := range inForce.certificates(time.Now()) {
		if cert.Source != SourceFile && slices.Contains(cert.Names, name) {
			return &cert, nil
		}
	}
	return nil, fmt.Errorf("the certificate of %s has gone", name)
}

// noRenewal says why there is nothing to renew for a name.
func (in InForce) noRenewal(name string) string {
	for _, c := range in.certificates(time.Now()) {
		if c.Source == SourceFile && covers(c.Names, name) {
			return fmt.Sprintf("the certificate of %s comes from %s: whoever writes that file renews it, and it is read again by itself", name, c.File)
		}
	}
	return cmp.Or(name, "this name") + " is not in tls.acme.domains, and no client has asked for it"
}
