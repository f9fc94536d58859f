package route

import (
	"cmp"
	"fmt"
	"strconv"

	memdb "github.com/hashicorp/go-memdb"
)

// Tables of one generation.
const (
	tableBackends = "backends" // *backendRow
	tablePools    = "pools"    // *poolRow
	tableUsers    = "users"    // *page, of many users each
	tableDomains  = "domains"  // *page, of many domains each, without their @
	tableDefault  = "default"  // *targetRow, one at the most
)

// Indexes. Every table has one, unique and by exact key; users has no other
// because it would take more memory than the users do.
const (
	// indexID serves, table by table: all backends and all pools, of which rosters
	// are made; the pool of a target; the page of a user, the page of a domain and of
	// each of its parents, the default. Walked in order of keys, it compares two
	// generations.
	indexID = "id"
)

// defaultKey is the key of the one row of tableDefault.
const defaultKey = "*"

// indexed is a row: something with a key that never changes.
type indexed interface{ indexKey() []byte }

// keyIndex indexes rows by their key. It hands out the row's own bytes: the tree
// then refers to them.
type keyIndex struct{}

// FromObject returns the key of a row.
func (keyIndex) FromObject(obj any) (bool, []byte, error) {
	row, ok := obj.(indexed)
	if !ok {
		return false, nil, fmt.Errorf("%T is not a row", obj)
	}
	key := row.indexKey()
	return len(key) > 0, key, nil
}

// FromArgs returns the key of a query, which is a name or the number of a page.
func (keyIndex) FromArgs(args ...any) ([]byte, error) {
	if len(args) != 1 {
		return nil, fmt.Errorf("a key is one argument, not %d", len(args))
	}
	switch key := args[0].(type) {
	case string:
		return []byte(key), nil
	case uint32:
		return pageKey(key), nil
	}
	return nil, fmt.Errorf("a key is a string or the number of a page, not %T", args[0])
}

func newDatabase() (*memdb.MemDB, error) {
	schema := &memdb.DBSchema{Tables: make(map[string]*memdb.TableSchema)}
	for _, name := range []string{tableBackends, tablePools, tableUsers, tableDomains, tableDefault} {
		schema.Tables[name] = &memdb.TableSchema{
			Name: name,
			Indexes: map[string]*memdb.IndexSchema{
				indexID: {Name: indexID, Unique: true, Indexer: keyIndex{}},
			},
		}
	}
	return memdb.NewMemDB(schema)
}

// backendRow is a backend in tableBackends. Immutable once inserted, as all
// rows are.
type backendRow struct {
	Backend
	key  []byte
	self []string // the backend's name alone: the answer for a user who lives here
	at   int      // place in the definition
}

func (r *backendRow) indexKey() []byte { return r.key }

// poolRow is a pool in tablePools. It holds what placement needs of its members,
// by configured weights.
type poolRow struct {
	Pool
	key     []byte
	members []member
	at      int // place in the definition
}

func (r *poolRow) indexKey() []byte { return r.key }

// target is what rows point at: the name of a backend or of a pool. Rows share
// the few that there are.
type target struct {
	name string
	pool bool
	at   uint32 // in the legend
}

// targetRow is a user, a domain or the default.
type targetRow struct {
	hash   uint32 // of the key, see pageHash; 0 in the default
	key    string
	target *target
	login  string
	file   string
	line   int
}

func (r *targetRow) indexKey() []byte { return []byte(r.key) }

// compare says which of two rows of pages comes first.
func (r *targetRow) compare(o *targetRow) int {
	return cmp.Or(cmp.Compare(r.hash, o.hash), cmp.Compare(r.key, o.key))
}

// source names the place of the row as people read it.
func (r *targetRow) source() string {
	if r.file == "" || r.line == 0 {
		return r.file
	}
	return r.file + ":" + strconv.Itoa(r.line)
}
