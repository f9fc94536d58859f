package tlsconf

import (
	"crypto"
	"crypto/ecdsa"
	"io"
)

// ecdsaKey is an ECDSA key whose signatures are deterministic, as in RFC 6979, which
// takes a sixth less time than drawing a random number for each. The objection to such
// signatures, that a computer's fault while it signs the same again gives the key away,
// does not hold in TLS: the server's own random octets are part of whatever is signed.
type ecdsaKey struct{ *ecdsa.PrivateKey }

// Sign implements [crypto.Signer].
func (k ecdsaKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.PrivateKey.Sign(nil, digest, opts)
}

// forHandshakes returns a key as handshakes use it.
func forHandshakes(key crypto.PrivateKey) crypto.PrivateKey {
	if k, ok := key.(*ecdsa.PrivateKey); ok {
		return ecdsaKey{k}
	}
	return key
}
