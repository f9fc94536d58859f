package proxy

import "fmt"

// Secret is a credential: a password, a token, a SASL response. It prints as
// "[redacted]" whatever the verb, is logged the same way, and can be wiped.
// The zero value is an empty secret. A copy shares the bytes, so a Wipe of one
// wipes all.
type Secret struct{ b []byte }

// NewSecret returns a secret that holds a copy of b.
func NewSecret(b []byte) Secret { return Secret{append([]byte(nil), b...)} }

// Format implements [fmt.Formatter], for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[redacted]")) }

// String implements [fmt.Stringer].
func (Secret) String() string { return "[redacted]" }

// MarshalText implements [encoding.TextMarshaler], which JSON and YAML use.
func (Secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Empty says whether there is no secret.
func (s Secret) Empty() bool { return len(s.b) == 0 }

// Wipe overwrites the secret's bytes.
func (s Secret) Wipe() { clear(s.b) }
