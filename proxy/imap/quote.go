package imap

// maxSentIDValue leaves room below MaxIDValue for backends that count quotes and escapes.
const maxSentIDValue = MaxIDValue - 24

// Quotable reports whether s can be sent as a quoted string to any server: it has no NUL, CR or LF, and nothing
// above ASCII, which IMAP4rev1 does not allow there. Whatever is not quotable has to be sent as a literal. See RFC
// 3501, Section 9, "quoted".
func Quotable(s []byte) bool {
	for _, b := range s {
		if b == 0 || b == '\r' || b == '\n' || b >= 0x80 {
			return false
		}
	}
	return true
}

// AppendQuoted appends s as a quoted string, which stands for s if s is Quotable. If it is not, then NUL, CR and
// LF are left out: whatever s is, nothing can follow the closing quote.
func AppendQuoted(dst, s []byte) []byte {
	dst = append(dst, '"')
	for _, b := range s {
		switch b {
		case 0, '\r', '\n':
			continue
		case '"', '\\':
			dst = append(dst, '\\')
		}
		dst = append(dst, b)
	}
	return append(dst, '"')
}

// AppendID appends pairs as the argument of an ID command or response: NIL when there are none. NUL, CR and LF are
// left out, octets above ASCII become "?", keys are cut to MaxIDKey octets and values to 1,000. See RFC 2971, Section 3.
func AppendID(dst []byte, pairs []Pair) []byte {
	if len(pairs) == 0 {
		return append(dst, "NIL"...)
	}
	for i, p := range pairs {
		if i == 0 {
			dst = append(dst, '(')
		} else {
			dst = append(dst, ' ')
		}
		dst = appendIDString(dst, p.Key, MaxIDKey)
		if p.Nil {
			dst = append(dst, " NIL"...)
			continue
		}
		dst = append(dst, ' ')
		dst = appendIDString(dst, p.Value, maxSentIDValue)
	}
	return append(dst, ')')
}

func appendIDString(dst []byte, s string, limit int) []byte {
	dst = append(dst, '"')
	n := 0
	for i := 0; i < len(s) && n < limit; i++ {
		b := s[i]
		switch {
		case b == 0 || b == '\r' || b == '\n':
			continue
		case b >= 0x80:
			b = '?'
		case b == '"' || b == '\\':
			dst = append(dst, '\\')
		}
		dst = append(dst, b)
		n++
	}
	return append(dst, '"')
}
