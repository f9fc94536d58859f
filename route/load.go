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
	files          map[string]*string // one copy of each file's name
	users, domains [][]targetRow      // in order of keys
	fallbackRow    *targetRow         // nil: unknown users are refused
	pace           *pace
}

// keyed is a row's normalised key, the key's hash, and the row's place among
// those of the load.
type keyed struct {
	key  string
	hash uint64
	at   int
}

// compile checks def and rows and makes the rows of a generation of them.
func compile(def *Definition, rows []Row) (*contents, error) {
	bad := new(TableError)
	c := &contents{definition: def.check(bad), files: make(map[string]*string), pace: newPace(def.Gently)}
	users := make([]keyed, 0, len(rows))
	var domains []keyed
	var fallback *Row
	for i := range rows {
		c.pace.step()
		row := &rows[i]
		c.checkTarget(row, bad)
		if text := checkName(row.Login); row.Login != "" && text != "" {
			bad.add(Problem{Position: row.Source, Text: "login of " + quote(row.Key) + " " + text})
		}
		switch {
		case row.Key == defaultKey:
			if fallback != nil {
				bad.add(Problem{Position: row.Source, Text: "the default (*) " + already(row, fallback)})
				continue
			}
			fallback = row
			c.checkWide(row, bad)
		case strings.HasPrefix(row.Key, "@"):
			domain := lower(row.Key[1:])
			if text, hint := checkDomain(domain); text != "" {
				bad.add(Problem{Position: row.Source, Text: "key " + quote(row.Key) + " " + text, Hint: hint})
				continue
			}
			domains = append(domains, keyed{domain, hashOf(domain), i})
			c.checkWide(row, bad)
		default:
			key := def.Names.Key(row.Key)
			if text, hint := checkUser(key, def.Names); text != "" {
				bad.add(Problem{Position: row.Source, Text: "key " + quote(row.Key) + " " + text, Hint: hint})
				continue
			}
			users = append(users, keyed{key, hashOf(key), i})
		}
	}
	if fallback != nil && def.Default != "" && def.Default != fallback.Target {
		bad.add(Problem{
			Position: fallback.Source,
			Text:     fmt.Sprintf("the default (*) is %s here and %s in the configuration", quote(fallback.Target), quote(def.Default)),
			Hint:     "keep one of them",
		})
	}
	c.sortKeys(users, rows, bad)
	c.sortKeys(domains, rows, bad)
	if err := bad.err(); err != nil {
		return nil, err
	}

	c.users = c.makeRows(users, rows)
	c.domains = c.makeRows(domains, rows)
	switch {
	case fallback != nil:
		c.fallbackRow = c.makeRow([]byte(defaultKey), fallback)
	case c.fallback != nil:
		c.fallbackRow = &targetRow{key: []byte(defaultKey), target: c.fallback, file: c.file("")}
	}
	return c, nil
}

// checkTarget adds it to bad when the row's target does not exist.
func (c *contents) checkTarget(row *Row, bad *TableError) {
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
func (c *contents) checkWide(row *Row, bad *TableError) {
	if row.Login != "" {
		bad.add(Problem{
			Position: row.Source,
			Text:     "option login is not for " + quote(row.Key),
			Hint:     "it would log in every user under one name",
		})
	}
}

// sortKeys brings keys into the order of the index, equal ones as they came, and
// adds those to bad. Consecutive inserts then touch the same few nodes, of which
// go-memdb keeps the last 8,192 and copies any other: that makes a load several
// times faster.
func (c *contents) sortKeys(keys []keyed, rows []Row, bad *TableError) {
	slices.SortFunc(keys, func(a, b keyed) int {
		c.pace.step()
		if a.hash != b.hash {
			return cmp.Compare(a.hash, b.hash)
		}
		if d := strings.Compare(a.key, b.key); d != 0 {
			return d
		}
		return a.at - b.at
	})
	first := 0
	for i := 1; i < len(keys); i++ {
		c.pace.step()
		if keys[i].key != keys[first].key {
			first = i
			continue
		}
		row := &rows[keys[i].at]
		bad.add(Problem{Position: row.Source, Text: quote(row.Key) + " " + already(row, &rows[keys[first].at])})
	}
}

// already says where the first of two rows with one key is.
func already(row, first *Row) string {
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

// rowsTogether is how many rows are allocated at a time. One piece of a million would
// make the load pay at once for what it does to the garbage collector, in a stretch of
// work that does not rest.
const rowsTogether = 1024

// makeRows makes the rows of one table, with the keys of some in one block of memory.
func (c *contents) makeRows(keys []keyed, rows []Row) [][]targetRow {
	var all [][]targetRow
	for part := range slices.Chunk(keys, rowsTogether) {
		size := 0
		for i := range part {
			size += hashLen + len(part[i].key)
		}
		block := make([]byte, 0, size)
		made := make([]targetRow, len(part))
		for i, k := range part {
			c.pace.step()
			start := len(block)
			block = appendHashed(block, k.hash, k.key)
			made[i] = *c.makeRow(block[start:len(block):len(block)], &rows[k.at])
		}
		all = append(all, made)
	}
	return all
}

func (c *contents) makeRow(key []byte, row *Row) *targetRow {
	return &targetRow{
		key:    key,
		target: c.targets[row.Target],
		login:  row.Login,
		file:   c.file(row.Source.File),
		line:   row.Source.Line,
	}
}

// file returns the one copy of a file's name.
func (c *contents) file(name string) *string {
	if known := c.files[name]; known != nil {
		return known
	}
	c.files[name] = new(name)
	return c.files[name]
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
	if err := insertRows(txn, tableUsers, c.users, c.pace); err != nil {
		return err
	}
	if err := insertRows(txn, tableDomains, c.domains, c.pace); err != nil {
		return err
	}
	if c.fallbackRow != nil {
		if err := txn.Insert(tableDefault, c.fallbackRow); err != nil {
			return fmt.Errorf("insert default: %w", err)
		}
	}
	txn.Commit()
	return nil
}

func insertRows(txn *memdb.Txn, table string, parts [][]targetRow, pace *pace) error {
	for _, rows := range parts {
		for i := range rows {
			pace.step()
			if err := txn.Insert(table, &rows[i]); err != nil {
				return fmt.Errorf("insert %s into %s: %w", quote(string(rows[i].key)), table, err)
			}
		}
	}
	return nil
}

// count returns how many rows there are.
func count(parts [][]targetRow) int {
	n := 0
	for _, rows := range parts {
		n += len(rows)
	}
	return n
}
