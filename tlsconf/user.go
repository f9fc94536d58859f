package tlsconf

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// NameField is where a client certificate holds the name of its user. The zero
// value is invalid.
type NameField int

// Fields of a certificate that name a user.
const (
	NameEmail      NameField = iota + 1 // subject alternative name, rfc822Name
	NameUPN                             // subject alternative name, Microsoft's User Principal Name
	NameCommonName                      // subject, common name
)

// String returns the field as it is written in the configuration file.
func (f NameField) String() string {
	switch f {
	case NameEmail:
		return "email"
	case NameUPN:
		return "upn"
	case NameCommonName:
		return "cn"
	}
	return "invalid"
}

// ParseNameField returns the field that the configuration file calls text.
func ParseNameField(text string) (NameField, error) {
	for f := NameEmail; f <= NameCommonName; f++ {
		if f.String() == text {
			return f, nil
		}
	}
	return 0, fmt.Errorf("%q is none of email, upn, cn", text)
}

// UserFromCertificate returns the user whom a verified client certificate
// names. A field that is missing, empty, there more than once, or not plain
// text is an error: the name decides whose mail is read.
func UserFromCertificate(cert *x509.Certificate, f NameField) (string, error) {
	var names []string
	var err error
	switch f {
	case NameEmail:
		names = cert.EmailAddresses
	case NameUPN:
		names, err = userPrincipalNames(cert)
	case NameCommonName:
		names, err = commonNames(cert)
	default:
		err = errors.New("unknown field")
	}
	switch {
	case err != nil:
		return "", fmt.Errorf("user of client certificate, %s: %w", f, err)
	case len(names) != 1:
		return "", fmt.Errorf("user of client certificate, %s: found %d times instead of once", f, len(names))
	case names[0] == "":
		return "", fmt.Errorf("user of client certificate, %s: empty", f)
	case !utf8.ValidString(names[0]) || strings.ContainsFunc(names[0], unicode.IsControl):
		return "", fmt.Errorf("user of client certificate, %s: holds control characters or is not UTF-8", f)
	}
	return names[0], nil
}

func commonNames(cert *x509.Certificate) ([]string, error) {
	oid := asn1.ObjectIdentifier{2, 5, 4, 3}
	var names []string
	for _, attribute := range cert.Subject.Names {
		if !attribute.Type.Equal(oid) {
			continue
		}
		name, ok := attribute.Value.(string)
		if !ok {
			return nil, errors.New("is not a string")
		}
		names = append(names, name)
	}
	return names, nil
}

// userPrincipalNames finds the names that crypto/x509 does not parse: those
// alternative names that are an otherName of Microsoft's type. See RFC 5280,
// Section 4.2.1.6.
func userPrincipalNames(cert *x509.Certificate) ([]string, error) {
	alternativeNames := asn1.ObjectIdentifier{2, 5, 29, 17}
	var names []string
	for _, extension := range cert.Extensions {
		if !extension.Id.Equal(alternativeNames) {
			continue
		}
		var sequence asn1.RawValue
		if rest, err := asn1.Unmarshal(extension.Value, &sequence); err != nil || len(rest) > 0 ||
			sequence.Class != asn1.ClassUniversal || sequence.Tag != asn1.TagSequence {
			return nil, errors.New("alternative names do not parse")
		}
		for rest := sequence.Bytes; len(rest) > 0; {
			var general asn1.RawValue
			var err error
			if rest, err = asn1.Unmarshal(rest, &general); err != nil {
				return nil, fmt.Errorf("alternative names do not parse: %w", err)
			}
			if general.Class != asn1.ClassContextSpecific || general.Tag != 0 {
				continue // not an otherName
			}
			name, ok, err := userPrincipalName(general.Bytes)
			if err != nil {
				return nil, err
			}
			if ok {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// userPrincipalName parses the content of an otherName, a type and a value with
// an explicit tag; ok is false when it is of another type.
func userPrincipalName(der []byte) (name string, ok bool, err error) {
	var oid asn1.ObjectIdentifier
	rest, err := asn1.Unmarshal(der, &oid)
	if err != nil {
		return "", false, fmt.Errorf("otherName does not parse: %w", err)
	}
	if !oid.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}) {
		return "", false, nil
	}
	rest, err = asn1.UnmarshalWithParams(rest, &name, "explicit,tag:0")
	if err != nil {
		return "", false, fmt.Errorf("user principal name does not parse: %w", err)
	}
	if len(rest) > 0 {
		return "", false, errors.New("user principal name is followed by something else")
	}
	return name, true, nil
}
