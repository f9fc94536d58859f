package imap

import "bytes"

// A Pair is one field of an ID list. See RFC 2971, Section 3.3, for those that have a meaning.
type Pair struct {
	// Key is the field's name as it was sent; it is compared without regard to case.
	Key string
	// Value is the field's value. It may hold any octet but NUL.
	Value string
	// Nil is set for NIL, which is not the same as an empty Value.
	Nil bool
}

// ID returns the argument of an ID command: nil for NIL, else the pairs of its list in the order they were sent,
// duplicates included. Pairs do not alias the command's memory. More than MaxIDPairs, keys over MaxIDKey and values
// over MaxIDValue are a *SyntaxError, as is any nesting. See RFC 2971, Section 3.1.
func (c *Command) ID() ([]Pair, error) {
	s, pairs := c.id()
	if s.err != nil {
		return nil, s.err
	}
	return pairs, nil
}

func (c *Command) id() (s scanner, pairs []Pair) {
	s = c.scan()
	s.space()
	if s.null() {
		s.end()
		return s, nil
	}
	if !s.accept('(') {
		s.fail("ID takes NIL or one list")
		return s, nil
	}
	pairs = []Pair{}
	if !s.accept(')') {
		for {
			if len(pairs) == MaxIDPairs {
				s.fail("Too many ID fields")
			}
			pair := s.pair()
			if s.err != nil {
				return s, nil
			}
			pairs = append(pairs, pair)
			if s.accept(')') {
				break
			}
			s.space()
		}
	}
	s.end()
	return s, pairs
}

// pair reads a string and an nstring.
func (s *scanner) pair() (p Pair) {
	key := s.idString(MaxIDKey)
	s.space()
	if s.null() {
		return Pair{Key: string(key), Nil: true}
	}
	value := s.idString(MaxIDValue)
	return Pair{Key: string(key), Value: string(value)}
}

func (s *scanner) idString(limit int) []byte {
	b := s.string()
	if len(b) > limit {
		s.fail("ID field too long")
	}
	if bytes.IndexByte(b, 0) >= 0 {
		s.fail("NUL in an ID field")
	}
	return b
}

// null consumes NIL. What follows is for the caller to check.
func (s *scanner) null() bool {
	t := s.text()
	if s.err != nil || len(t) < 3 || t[0]&^0x20 != 'N' || t[1]&^0x20 != 'I' || t[2]&^0x20 != 'L' {
		return false
	}
	s.pos += 3
	return true
}
