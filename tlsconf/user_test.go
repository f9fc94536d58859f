package tlsconf_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"imapgate/proxy/proxytest"
	"imapgate/tlsconf"
)

func TestUserFromCertificate(t *testing.T) {
	type options = proxytest.CertOptions
	email, upn, cn := tlsconf.NameEmail, tlsconf.NameUPN, tlsconf.NameCommonName
	ca := proxytest.NewCA(t)
	for name, test := range map[string]struct {
		cert  options
		field tlsconf.NameField
		want  string // "" for an error
	}{
		"e-mail":                    {options{Emails: []string{"alice@example.org"}}, email, "alice@example.org"},
		"e-mail among others":       {options{Emails: []string{"alice@example.org"}, UPNs: []string{"a@x"}, Hosts: []string{"h.example"}, CommonNames: []string{"Alice"}}, email, "alice@example.org"},
		"no e-mail":                 {options{UPNs: []string{"alice@example.org"}, CommonNames: []string{"alice@example.org"}}, email, ""},
		"two e-mails":               {options{Emails: []string{"alice@example.org", "bob@example.org"}}, email, ""},
		"the same e-mail twice":     {options{Emails: []string{"alice@example.org", "alice@example.org"}}, email, ""},
		"UPN":                       {options{UPNs: []string{"alice@example.org"}}, upn, "alice@example.org"},
		"UPN in UTF-8":              {options{UPNs: []string{"jörg@example.org"}}, upn, "jörg@example.org"},
		"UPN among others":          {options{UPNs: []string{"alice@example.org"}, Emails: []string{"a@x"}, Hosts: []string{"h.example", "192.0.2.1"}}, upn, "alice@example.org"},
		"no UPN":                    {options{Emails: []string{"alice@example.org"}}, upn, ""},
		"no alternative names":      {options{CommonNames: []string{"alice"}}, upn, ""},
		"two UPNs":                  {options{UPNs: []string{"alice@example.org", "bob@example.org"}}, upn, ""},
		"empty UPN":                 {options{UPNs: []string{""}}, upn, ""},
		"UPN with NUL":              {options{UPNs: []string{"alice@example.org\x00.evil.example"}}, upn, ""},
		"UPN with a line's end":     {options{UPNs: []string{"alice\r\nx LOGOUT"}}, upn, ""},
		"common name":               {options{CommonNames: []string{"alice"}}, cn, "alice"},
		"no common name":            {options{Emails: []string{"alice@example.org"}}, cn, ""},
		"two common names":          {options{CommonNames: []string{"alice", "bob"}}, cn, ""},
		"common name with NUL":      {options{CommonNames: []string{"alice\x00"}}, cn, ""},
		"the zero field is invalid": {options{Emails: []string{"alice@example.org"}, CommonNames: []string{"alice"}}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			test.cert.Client = true
			got, err := tlsconf.UserFromCertificate(ca.Issue(t, test.cert).Leaf, test.field)
			if got != test.want || (err != nil) != (test.want == "") {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

func TestNameFieldsAreWrittenAsInTheConfiguration(t *testing.T) {
	for _, text := range []string{"email", "upn", "cn"} {
		f, err := tlsconf.ParseNameField(text)
		if err != nil || f.String() != text {
			t.Errorf("%s: got %v, %v", text, f, err)
		}
	}
	for _, text := range []string{"", "CN", "invalid", "subject"} {
		if f, err := tlsconf.ParseNameField(text); err == nil || f != 0 {
			t.Errorf("%s: got %v, %v", text, f, err)
		}
	}
}

func FuzzUserPrincipalName(f *testing.F) {
	ca := proxytest.NewCA(f)
	oid := asn1.ObjectIdentifier{2, 5, 29, 17}
	for _, o := range []proxytest.CertOptions{
		{UPNs: []string{"alice@example.org"}},
		{UPNs: []string{"a", "b"}, Emails: []string{"c"}, Hosts: []string{"d.example", "192.0.2.1"}},
	} {
		for _, extension := range ca.Issue(f, o).Leaf.Extensions {
			if extension.Id.Equal(oid) {
				f.Add(extension.Value)
				f.Add(extension.Value[:len(extension.Value)-1])
				f.Add(append(extension.Value, 0))
			}
		}
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		cert := &x509.Certificate{Extensions: []pkix.Extension{{Id: oid, Value: der}}}
		name, err := tlsconf.UserFromCertificate(cert, tlsconf.NameUPN)
		if (err == nil) == (name == "") {
			t.Errorf("got %q, %v", name, err)
		}
	})
}
