package main_test

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// realSCRAM is the client of one SCRAM exchange. See RFC 5802, Section 3, and
// RFC 7677.
type realSCRAM struct {
	Hash     func() hash.Hash
	User     string
	Password string

	bare      string // client-first-message-bare
	nonce     string
	signature []byte // that the server must show
}

// First returns the client-first-message.
func (s *realSCRAM) First() string {
	s.nonce = rand.Text()
	name := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(s.User)
	s.bare = "n=" + name + ",r=" + s.nonce
	return "n,," + s.bare
}

// Final returns the client-final-message that answers a server-first-message.
func (s *realSCRAM) Final(serverFirst string) (string, error) {
	fields := realSCRAMFields(serverFirst)
	salt, err := base64.StdEncoding.DecodeString(fields["s"])
	if err != nil {
		return "", fmt.Errorf("salt: %w", err)
	}
	iterations, err := strconv.Atoi(fields["i"])
	if err != nil {
		return "", fmt.Errorf("iterations: %w", err)
	}
	if !strings.HasPrefix(fields["r"], s.nonce) || fields["r"] == s.nonce {
		return "", errors.New("the nonce does not begin with the client's")
	}
	salted, err := pbkdf2.Key(s.Hash, s.Password, salt, iterations, s.Hash().Size())
	if err != nil {
		return "", err
	}
	without := "c=" + base64.StdEncoding.EncodeToString([]byte("n,,")) + ",r=" + fields["r"]
	message := s.bare + "," + serverFirst + "," + without
	clientKey := s.mac(salted, "Client Key")
	stored := s.Hash()
	stored.Write(clientKey)
	proof := s.mac(stored.Sum(nil), message)
	for i := range proof {
		proof[i] ^= clientKey[i]
	}
	s.signature = s.mac(s.mac(salted, "Server Key"), message)
	return without + ",p=" + base64.StdEncoding.EncodeToString(proof), nil
}

// Verify checks the server-final-message.
func (s *realSCRAM) Verify(serverFinal string) error {
	signature, err := base64.StdEncoding.DecodeString(realSCRAMFields(serverFinal)["v"])
	if err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	if !hmac.Equal(signature, s.signature) {
		return errors.New("the server does not know the password")
	}
	return nil
}

func (s *realSCRAM) mac(key []byte, text string) []byte {
	h := hmac.New(s.Hash, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func realSCRAMFields(message string) map[string]string {
	fields := map[string]string{}
	for part := range strings.SplitSeq(message, ",") {
		name, value, _ := strings.Cut(part, "=")
		fields[name] = value
	}
	return fields
}
