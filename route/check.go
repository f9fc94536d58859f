package route

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxName is the greatest length of a user's name or key in octets.
const MaxName = 255

// checkName says what is wrong with the characters of a name, "" if nothing.
// Whatever cannot be seen is refused: it came from a word processor or a
// damaged file, and would be looked for in vain.
func checkName(name string) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > MaxName:
		return fmt.Sprintf("is longer than %d octets", MaxName)
	case !utf8.ValidString(name):
		return "is not UTF-8"
	}
	for _, r := range name {
		switch {
		case '!' <= r && r <= '~':
		case unicode.IsSpace(r):
			return fmt.Sprintf("has a blank (%U) inside", r)
		case !unicode.IsGraphic(r):
			return fmt.Sprintf("has an invisible character (%U) inside", r)
		}
	}
	return ""
}

// checkUser says what is wrong with a normalised user, "" if nothing.
func checkUser(key string, names Names) (text, hint string) {
	if text := checkName(key); text != "" {
		return text, ""
	}
	local, domain, hasDomain := cutLast(key)
	switch {
	case strings.ContainsRune(":,;=", rune(key[len(key)-1])):
		return fmt.Sprintf("ends in %q", key[len(key)-1:]), "a key and its target are separated by blanks alone"
	case local == "*" && hasDomain:
		return "is not a user", "a whole domain is written " + quote("@"+domain)
	case names.MasterSeparator != "" && strings.Contains(key, names.MasterSeparator):
		return "never matches: " + quote(names.MasterSeparator) + " separates master users", ""
	case hasDomain:
		return checkDomain(domain)
	}
	return "", ""
}

// checkDomain says what is wrong with a normalised domain, "" if nothing.
func checkDomain(domain string) (text, hint string) {
	if text := checkName(domain); text != "" {
		return "has a domain that " + text, ""
	}
	switch {
	case strings.HasPrefix(domain, "*."):
		return "has a wildcard", "a domain covers those below it: @" + domain[len("*."):]
	case strings.HasPrefix(domain, "."), strings.HasSuffix(domain, "."), strings.Contains(domain, ".."):
		return "has a domain with a dot too many", ""
	case strings.ContainsAny(domain, "@*:,;="):
		i := strings.IndexAny(domain, "@*:,;=")
		return fmt.Sprintf("has a %q in its domain", domain[i:i+1]), "a key and its target are separated by blanks alone"
	}
	return "", ""
}

// cutLast separates a key at its last @.
func cutLast(key string) (local, domain string, found bool) {
	at := strings.LastIndexByte(key, '@')
	if at < 0 {
		return key, "", false
	}
	return key[:at], key[at+1:], true
}

// definition is a checked Definition: what targets may be, and their rows.
type definition struct {
	targets  map[string]*target
	known    []string // names of all targets, for hints
	backends []*backendRow
	pools    []*poolRow
	fallback *target // nil: unknown users are refused
	affinity time.Duration
}

// check adds what is wrong with the definition to bad.
func (def *Definition) check(bad *TableError) *definition {
	problem := func(hint, format string, args ...any) {
		bad.add(Problem{Text: fmt.Sprintf(format, args...), Hint: hint})
	}
	d := &definition{targets: make(map[string]*target)}
	backends := make(map[string]*backendRow)
	for _, b := range def.Backends {
		if text := checkName(b.Name); text != "" {
			problem("", "backend %s: the name %s", quote(b.Name), text)
			continue
		}
		if backends[b.Name] != nil {
			problem("", "backend %s is defined twice", quote(b.Name))
			continue
		}
		switch {
		case b.Weight == 0:
			b.Weight = DefaultWeight
		case b.Weight < 0 || b.Weight > MaxWeight:
			problem("", "backend %s: weight %d is not between 1 and %d", quote(b.Name), b.Weight, MaxWeight)
		}
		row := &backendRow{Backend: b, key: []byte(b.Name), self: []string{b.Name}, at: len(d.backends)}
		backends[b.Name] = row
		d.backends = append(d.backends, row)
		d.targets[b.Name] = &target{name: b.Name, at: uint32(len(d.known))} //nolint:gosec // backends are few
		d.known = append(d.known, b.Name)
	}
	names := slices.Clone(d.known)
	for _, p := range def.Pools {
		if text := checkName(p.Name); text != "" {
			problem("", "pool %s: the name %s", quote(p.Name), text)
			continue
		}
		if backends[p.Name] != nil {
			problem("rename one", "pool %s has the name of a backend", quote(p.Name))
			continue
		}
		if d.targets[p.Name] != nil {
			problem("", "pool %s is defined twice", quote(p.Name))
			continue
		}
		if len(p.Backends) == 0 {
			problem("", "pool %s has no backends", quote(p.Name))
		}
		row := &poolRow{Pool: p, key: []byte(p.Name), at: len(d.pools)}
		row.Backends = slices.Clone(p.Backends) // rows are immutable, the caller's slice is not
		for i, name := range p.Backends {
			b := backends[name]
			switch {
			case b == nil:
				problem(suggest(name, names), "pool %s: unknown backend %s", quote(p.Name), quote(name))
			case slices.Contains(p.Backends[:i], name):
				problem("weights say how much a backend gets", "pool %s: backend %s is listed twice", quote(p.Name), quote(name))
			default:
				row.members = append(row.members, member{name: name, weight: float64(b.Weight), self: b.self})
			}
		}
		d.pools = append(d.pools, row)
		d.targets[p.Name] = &target{name: p.Name, pool: true, at: uint32(len(d.known))} //nolint:gosec // pools are few
		d.known = append(d.known, p.Name)
	}
	if def.Default != "" {
		if d.fallback = d.targets[def.Default]; d.fallback == nil {
			problem(suggest(def.Default, d.known), "default: unknown target %s", quote(def.Default))
		}
	}
	switch d.affinity = def.Affinity; {
	case d.affinity == 0:
		d.affinity = DefaultAffinity
	case d.affinity < 0:
		d.affinity = 0
	}
	if def.MaxShrink < 0 || def.MaxShrink > 100 {
		problem("", "max_shrink %d is not a percentage", def.MaxShrink)
	}
	return d
}
