package route

import (
	"encoding/binary"
	"fmt"
	"strconv"

	memdb "github.com/hashicorp/go-memdb"
)

// Tables of one generation.
const (
	tableBackends = "backends" // *backendRow
	tablePools    = "pools"    // *poolRow
	tableUsers    = "users"    // *targetRow, one per user
	tableDomains  = "domains"  // *targetRow, keyed by the domain without its @
	tableDefault  = "default"  // *targetRow, one at the most
)

// Indexes. Every table has one, unique and by exact key; users has no other
// because each would cost as much memory as the first.
const (
	// indexID serves, table by table: all backends and all pools, of which rosters
	// are made; the pool of a target; the row of a user, the row of a domain and of
	// each of its parents, the default. Walked in order of keys, it compares two
	// generations.
	indexID = "id"
)

// defaultKey is the key of the one row of tableDefault.
const defaultKey = "*"

// indexed is a row: something with a key that never changes.
type indexed interface{ indexKey() []byte }

// keyIndex indexes rows by their key. It hands out the row's own bytes: the tree
// then refers to them, and a million keys are stored once.
type keyIndex struct {
	// hashed says that a part of the key's hash precedes it. A radix tree of
	// names is as deep as the names are alike, and each level is several cache
	// misses; with a hash in front a million rows are four levels, whatever the
	// names. The price is that rows are not in order of names, which no query
	// needs.
	hashed bool
}

// FromObject returns the key of a row.
func (keyIndex) FromObject(obj any) (bool, []byte, error) {
	row, ok := obj.(indexed)
	if !ok {
		return false, nil, fmt.Errorf("%T is not a row", obj)
	}
	key := row.indexKey()
	return len(key) > 0, key, nil
}

// FromArgs returns the key of a query, which has one string.
func (x keyIndex) FromArgs(args ...any) ([]byte, error) {
	if len(args) != 1 {
		return nil, fmt.Errorf("a key is one argument, not %d", len(args))
	}
	key, ok := args[0].(string)
	if !ok {
		return nil, fmt.Errorf("a key is a string, not %T", args[0])
	}
	if x.hashed {
		return appendHashed(make([]byte, 0, hashLen+len(key)), hashOf(key), key), nil
	}
	return []byte(key), nil
}

// hashLen is the number of octets of a hash that precede a key.
const hashLen = 4

func appendHashed(dst []byte, hash uint64, key string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(hash>>32))
	return append(dst, key...)
}

func newDatabase() (*memdb.MemDB, error) {
	schema := &memdb.DBSchema{Tables: make(map[string]*memdb.TableSchema)}
	for _, name := range []string{tableBackends, tablePools, tableUsers, tableDomains, tableDefault} {
		index := keyIndex{hashed: name == tableUsers || name == tableDomains}
		schema.Tables[name] = &memdb.TableSchema{
			Name: name,
			Indexes: map[string]*memdb.IndexSchema{
				indexID: {Name: indexID, Unique: true, Indexer: index},
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
}

// targetRow is a user, a domain or the default. There may be millions: key is a
// part of one block that all keys of a generation share, and rows lie in one
// slice, so that a row costs no allocation of its own.
type targetRow struct {
	key    []byte
	target *target
	login  string
	file   *string
	line   int
}

func (r *targetRow) indexKey() []byte { return r.key }

// name returns the key of a row of a table without what precedes it.
func (r *targetRow) name(table string) string {
	if table == tableDefault {
		return string(r.key)
	}
	return string(r.key[hashLen:])
}

// source names the place of the row as people read it.
func (r *targetRow) source() string {
	if *r.file == "" {
		return ""
	}
	if r.line == 0 {
		return *r.file
	}
	return *r.file + ":" + strconv.Itoa(r.line)
}
