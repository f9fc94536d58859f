package route

import "strings"

// Names says how the names that clients type become keys of a table. The zero
// value lower-cases and does nothing else. A Names is immutable and safe for
// concurrent use.
type Names struct {
	// DefaultDomain is added to names without a domain; "" adds nothing.
	DefaultDomain string

	// MasterSeparator separates the user from a master user who logs in for
	// them ("alice*admin"); "" turns master names off.
	MasterSeparator string

	// CaseSensitive keeps the case of the part before the @. Domains are
	// lower-cased always.
	CaseSensitive bool
}

// Split separates a name as typed into the user and the master user who logs
// in for them. The first separator counts, as in Dovecot. Without a separator,
// or with nothing behind it, master is "" and user is the whole name: what is
// routed is then what the backend is asked to authenticate.
func (n Names) Split(typed string) (user, master string) {
	if n.MasterSeparator == "" {
		return typed, ""
	}
	user, master, found := strings.Cut(typed, n.MasterSeparator)
	if !found || master == "" {
		return typed, ""
	}
	return user, master
}

// Key returns the normalised form of a user's name, which tables are keyed by:
// lower-case, with the default domain. Only ASCII letters change case: mapping
// more would need a Unicode version that the backends share, and would fold
// names with invalid UTF-8 into each other. An empty name stays empty.
func (n Names) Key(user string) string {
	if user == "" {
		return ""
	}
	at := strings.LastIndexByte(user, '@')
	switch {
	case at >= 0 && n.CaseSensitive:
		return user[:at] + lower(user[at:])
	case at >= 0:
		return lower(user)
	}
	if !n.CaseSensitive {
		user = lower(user)
	}
	if n.DefaultDomain == "" {
		return user
	}
	return user + "@" + lower(n.DefaultDomain)
}

// lower maps A–Z to a–z and nothing else; it returns s itself when nothing
// changes.
func lower(s string) string {
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'Z' {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				if c := b[j]; 'A' <= c && c <= 'Z' {
					b[j] = c + ('a' - 'A')
				}
			}
			return string(b)
		}
	}
	return s
}
