package tlsconf

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// TicketKeys are the keys of session tickets, read from a file that several
// proxies may share. Each line of it is a key: its role, the time when it was
// made, and 32 bytes in base64.
//
//	next      2026-11-25T03:00:00Z  …    opens tickets, and is the one that the next rotation puts in use
//	current   2026-11-24T03:00:00Z  …    makes tickets and opens them
//	previous  2026-11-23T03:00:00Z  …    opens tickets
//
// A key is thus known everywhere for as long as it is next, before the first
// ticket is made with it, however slowly the file reaches the other proxies. What
// is behind a # is a comment. See [RotateTicketKeys]. Methods are safe for
// concurrent use.
type TicketKeys struct {
	file string

	current atomic.Pointer[ticketSet]
	mu      sync.Mutex // makes reloads take turns
}

// ticketSet is the content of a file. It is never modified.
type ticketSet struct {
	keys []ticketKey // the current one, then the others as they come
	sum  [sha256.Size]byte
}

type ticketKey struct {
	role   ticketRole
	made   time.Time
	secret [32]byte
}

// ticketRole is what a key is for.
type ticketRole string

const (
	nextKey     ticketRole = "next"
	currentKey  ticketRole = "current"
	previousKey ticketRole = "previous"
)

// NewTicketKeys reads a file of keys.
func NewTicketKeys(file string) (*TicketKeys, error) {
	set, err := readTicketKeys(file)
	if err != nil {
		return nil, err
	}
	k := &TicketKeys{file: file}
	k.current.Store(set)
	return k, nil
}

// reload implements [Watched].
func (k *TicketKeys) reload() (changed bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	set, err := readTicketKeys(k.file)
	switch {
	case err != nil:
		return false, fmt.Errorf("%w; the keys loaded before stay in use", err)
	case set.sum == k.current.Load().sum:
		return false, nil
	}
	k.current.Store(set)
	return true, nil
}

// fileNames implements [Watched].
func (k *TicketKeys) fileNames() []string { return []string{k.file} }

// maxTicketKeyAge is how long a key should make tickets. See RFC 9325, Section
// 3.4.
const maxTicketKeyAge = 7 * 24 * time.Hour

// Warning says in plain words that the current key has been in use for too long
// at the given time. It is empty when it has not.
func (k *TicketKeys) Warning(now time.Time) string {
	const day = 24 * time.Hour
	set := k.current.Load()
	age := now.Sub(set.keys[0].made)
	for _, key := range set.keys[1:] {
		// It came into use when the one that is next now was made.
		if key.role == nextKey {
			age = now.Sub(key.made)
		}
	}
	if age <= maxTicketKeyAge {
		return ""
	}
	return fmt.Sprintf("session ticket keys %s: the last rotation was %d days ago; `imapgate ticket-key rotate` should run every day", k.file, age/day)
}

func readTicketKeys(file string) (*ticketSet, error) {
	data, err := readFile("session ticket keys", file)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	set, err := parseTicketKeys(data)
	if err != nil {
		return nil, &fileError{what: "session ticket keys", name: file, problem: err.Error(), err: err}
	}
	return set, nil
}

// parseTicketKeys reads the lines of a file. Its errors hold no key.
func parseTicketKeys(data []byte) (*ticketSet, error) {
	set := &ticketSet{sum: sha256.Sum256(data)}
	seen := make(map[ticketRole]int)
	number := 0
	for line := range bytes.Lines(data) {
		number++
		text, _, _ := strings.Cut(string(line), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		key, err := parseTicketKey(fields)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if seen[key.role]++; key.role != previousKey && seen[key.role] > 1 {
			return nil, fmt.Errorf("line %d: there is a %s key already", number, key.role)
		}
		set.keys = append(set.keys, key)
		if key.role == currentKey {
			last := len(set.keys) - 1
			copy(set.keys[1:], set.keys[:last])
			set.keys[0] = key
		}
	}
	if seen[currentKey] == 0 {
		return nil, errors.New("there is no current key; `imapgate ticket-key rotate` makes a file")
	}
	return set, nil
}

func parseTicketKey(fields []string) (ticketKey, error) {
	if len(fields) != 3 {
		return ticketKey{}, errors.New("is not a role, a time and a key")
	}
	key := ticketKey{role: ticketRole(fields[0])}
	switch key.role {
	case nextKey, currentKey, previousKey:
	default:
		return ticketKey{}, errors.New("the role is none of next, current, previous")
	}
	var err error
	if key.made, err = time.Parse(time.RFC3339, fields[1]); err != nil {
		return ticketKey{}, errors.New("the time is not like 2026-11-25T03:00:00Z")
	}
	secret, err := base64.StdEncoding.Strict().DecodeString(fields[2])
	if err != nil || len(secret) != len(key.secret) {
		return ticketKey{}, errors.New("the key is not the base64 of 32 bytes")
	}
	copy(key.secret[:], secret)
	clear(secret)
	return key, nil
}

// newTicketKey makes a key up.
func newTicketKey(role ticketRole, now time.Time) ticketKey {
	key := ticketKey{role: role, made: now.UTC().Truncate(time.Second)}
	_, _ = rand.Read(key.secret[:]) // which never fails
	return key
}
