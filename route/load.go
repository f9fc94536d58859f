package route

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	memdb "github.com/hashicorp/go-memdb"
)

// contents is everything of one generation, checked, before it is inserted.
type contents struct {
	*definition
	names          Names
	rows           *Rows
	pageBits       int
	users, domains keys
	fallbackRow    *targetRow // nil: unknown users are refused
	pace           *Pace
}

// keys are those of one table, by page.
type keys struct {
	pages [][]keyed
	n     int
}

// keyed is the hash of a row's normalised key, and the row's place among those of the
// load. It has no pointers: there may be millions.
type keyed struct{ hash, at uint32 }

// add adds the key of a row.
func (k *keys) add(key string, at, pageBits int) {
	hash := pageHash(key)
	p := &k.pages[pageOf(hash, pageBits)]
	*p = append(*p, keyed{hash, uint32(at)}) //nolint:gosec // four thousand million rows do not fit
	k.n++
}

// compile checks def and rows and makes the rows of a generation of them.
func compile(def *Definition, rows *Rows) (*contents, error) {
	bad := new(TableError)
	c := &contents{definition: def.check(bad), names: def.Names, rows: rows, pageBits: pageBits(rows.Len()), pace: NewPace(def.Gently)}
	c.users.pages, c.domains.pages = make([][]keyed, 1<<c.pageBits), make([][]keyed, 1<<c.pageBits)
	var fallback *Row
	for i := range rows.Len() {
		c.pace.step()
		row := rows.At(i)
		c.checkTarget(row, bad)
		if text := checkName(row.Login); row.Login != "" && text != "" {
			bad.add(Problem{Position: row.Source, Text: "login of " + quote(row.Key) + " " + text})
		}
		switch {
		case row.Key == defaultKey:
			if fallback != nil {
				bad.add(Problem{Position: row.Source, Text: "the default (*) " + already(row, *fallback)})
				continue
			}
			fallback = new(row)
			c.checkWide(row, bad)
		case strings.HasPrefix(row.Key, "@"):
			domain := lower(row.Key[1:])
			if text, hint := checkDomain(domain); text != "" {
				bad.add(Problem{Position: row.Source, Text: "key " + quote(row.Key) + " " + text, Hint: hint})
				continue
			}
			c.domains.add(domain, i, c.pageBits)
			c.checkWide(row, bad)
		default:
			key := def.Names.Key(row.Key)
			if text, hint := checkUser(key, def.Names); text != "" {
				bad.add(Problem{Position: row.Source, Text: "key " + quote(row.Key) + " " + text, Hint: hint})
				continue
			}
			c.users.add(key, i, c.pageBits)
		}
	}
	if fallback != nil && def.Default != "" && def.Default != fallback.Target {
		bad.add(Problem{
			Position: fallback.Source,
			Text:     fmt.Sprintf("the default (*) is %s here and %s in the configuration", quote(fallback.Target), quote(def.Default)),
			Hint:     "keep one of them",
		})
	}
	c.sortKeys(c.users, bad)
	c.sortKeys(c.domains, bad)
	if err := bad.err(); err != nil {
		return nil, err
	}

	switch {
	case fallback != nil:
		c.fallbackRow = &targetRow{key: defaultKey, target: c.targets[fallback.Target], file: fallback.Source.File, line: fallback.Source.Line}
	case c.fallback != nil:
		c.fallbackRow = &targetRow{key: defaultKey, target: c.fallback}
	}
	return c, nil
}

// checkTarget adds it to bad when the row's target does not exist.
func (c *contents) checkTarget(row Row, bad *TableError) {
	if c.targets[row.Target] != nil {
		return
	}
	at := row.Source
	if row.TargetColumn > 0 {
		at.Column = row.TargetColumn
	}
	if row.Target == "" {
		bad.add(Problem{Position: at, Text: "the target of " + quote(row.Key) + " is missing"})
		return
	}
	p := Problem{Position: at, Text: "unknown target " + quote(row.Target)}
	if len(bad.Problems) < MaxProblems { // a million wrong rows need no hints
		p.Hint = suggest(row.Target, c.known)
	}
	bad.add(p)
}

// checkWide adds it to bad when a row for many users has what fits one alone.
func (c *contents) checkWide(row Row, bad *TableError) {
	if row.Login != "" {
		bad.add(Problem{
			Position: row.Source,
			Text:     "option login is not for " + quote(row.Key),
			Hint:     "it would log in every user under one name",
		})
	}
}

// key returns the normalised key of a row of users or domains.
func (c *contents) key(row Row) string {
	if strings.HasPrefix(row.Key, "@") {
		return lower(row.Key[1:])
	}
	return c.names.Key(row.Key)
}

func (c *contents) keyAt(k keyed) string { return c.key(c.rows.At(int(k.at))) }

// sortKeys brings the keys of each page into their order, equal ones as they came, and
// adds those to bad.
func (c *contents) sortKeys(k keys, bad *TableError) {
	for _, page := range k.pages {
		slices.SortFunc(page, func(a, b keyed) int {
			if a.hash != b.hash {
				return cmp.Compare(a.hash, b.hash)
			}
			return cmp.Or(strings.Compare(c.keyAt(a), c.keyAt(b)), cmp.Compare(a.at, b.at))
		})
		first := 0
		for i := range page {
			c.pace.step()
			switch {
			case i == first:
			case page[i].hash != page[first].hash || c.keyAt(page[i]) != c.keyAt(page[first]):
				first = i
			default:
				row, before := c.rows.At(int(page[i].at)), c.rows.At(int(page[first].at))
				bad.add(Problem{Position: row.Source, Text: quote(row.Key) + " " + already(row, before)})
			}
		}
	}
}

// already says where the first of two rows with one key is.
func already(row, first Row) string {
	text := fmt.Sprintf("is already on line %d", first.Source.Line)
	if first.Source.File != row.Source.File || first.Source.Line == 0 {
		at := first.Source
		at.Column = 0
		text = "is already at " + at.String()
	}
	if first.Key != row.Key {
		text += ", written " + quote(first.Key)
	}
	return text
}

// insert fills an empty database in one write transaction.
func (c *contents) insert(db *memdb.MemDB) error {
	txn := db.Txn(true)
	defer txn.Abort() // does nothing after Commit
	for _, b := range c.backends {
		if err := txn.Insert(tableBackends, b); err != nil {
			return fmt.Errorf("insert backend %s: %w", quote(b.Name), err)
		}
	}
	for _, p := range c.pools {
		if err := txn.Insert(tablePools, p); err != nil {
			return fmt.Errorf("insert pool %s: %w", quote(p.Name), err)
		}
	}
	of := &legend{}
	for _, name := range c.known {
		of.targets = append(of.targets, c.targets[name])
	}
	for _, table := range []struct {
		name string
		keys keys
	}{{tableUsers, c.users}, {tableDomains, c.domains}} {
		for number, keys := range table.keys.pages {
			if len(keys) == 0 {
				continue
			}
			if err := txn.Insert(table.name, c.makePage(number, keys, of)); err != nil {
				return fmt.Errorf("insert page %d into %s: %w", number, table.name, err)
			}
		}
	}
	if c.fallbackRow != nil {
		if err := txn.Insert(tableDefault, c.fallbackRow); err != nil {
			return fmt.Errorf("insert default: %w", err)
		}
	}
	txn.Commit()
	return nil
}

// makePage makes the page of the rows with some keys.
func (c *contents) makePage(number int, keys []keyed, of *legend) *page {
	places := make([]place, len(keys))
	var text []byte
	for i, k := range keys {
		c.pace.step()
		row := c.rows.At(int(k.at))
		key := c.key(row)
		//nolint:gosec // rows are checked, and few on a page
		places[i] = place{
			hash: k.hash, text: uint32(len(text)), line: uint32(row.Source.Line),
			target: c.targets[row.Target].at, file: of.file(row.Source.File),
			key: uint8(len(key)), login: uint8(len(row.Login)),
		}
		text = append(append(text, key...), row.Login...)
	}
	return &page{key: pageKey(uint32(number)), of: of, places: places, text: string(text)} //nolint:gosec // see pageBits
}

// file returns the index of a file's name.
func (l *legend) file(name string) uint32 {
	i := slices.Index(l.files, name)
	if i < 0 {
		i = len(l.files)
		l.files = append(l.files, name)
	}
	return uint32(i) //nolint:gosec // files are few
}
