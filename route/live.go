package route

import (
	"container/list"
	"fmt"
	"time"

	memdb "github.com/hashicorp/go-memdb"
)

// Tables of the live state.
const (
	tableAssignments = "assignments" // *assignment, one per user with sessions or affinity
	tablePins        = "pins"        // *pin, one per pinned user
	tableHolds       = "holds"       // *hold, one per held user
)

// liveHashLen is the number of octets in front of a key of the live state, with
// liveHashBits of its hash in each. A write copies every node on the way to its
// row: with eight bits a node has up to 256 children and two such nodes are most
// of what a login costs, with few bits the way is long.
const (
	liveHashLen  = 6
	liveHashBits = 5
)

// liveKey returns the key of a user's rows in the live state.
func liveKey(key string) []byte { return appendLiveKey(hashOf(key), key) }

func appendLiveKey(hash uint64, key string) []byte {
	b := make([]byte, 0, liveHashLen+len(key))
	for i := range liveHashLen {
		b = append(b, byte(hash>>(64-liveHashBits*(i+1))%(1<<liveHashBits)))
	}
	return append(b, key...)
}

// userOf returns the user of a key that liveKey made.
func userOf(key []byte) string { return string(key[liveHashLen:]) }

// liveIndex indexes rows by the keys that liveKey makes. Queries have such a key,
// made once for all that happens to a session.
type liveIndex struct{ keyIndex }

// FromArgs returns the key of a query, which has one key.
func (liveIndex) FromArgs(args ...any) ([]byte, error) {
	if len(args) != 1 {
		return nil, fmt.Errorf("a key is one argument, not %d", len(args))
	}
	key, ok := args[0].([]byte)
	if !ok {
		return nil, fmt.Errorf("a key is octets, not %T", args[0])
	}
	return key, nil
}

func newLiveDatabase() (*memdb.MemDB, error) {
	schema := &memdb.DBSchema{Tables: make(map[string]*memdb.TableSchema)}
	for _, name := range []string{tableAssignments, tablePins, tableHolds} {
		schema.Tables[name] = &memdb.TableSchema{
			Name: name,
			Indexes: map[string]*memdb.IndexSchema{
				// Serves what a login asks about its user, and walks over all users.
				indexID: {Name: indexID, Unique: true, Indexer: liveIndex{}},
			},
		}
	}
	return memdb.NewMemDB(schema)
}

// assignment says where a user has sessions, or had some a moment ago. Immutable
// once inserted.
type assignment struct {
	key      []byte
	backend  string
	sessions int
	until    time.Duration // without sessions: end of the affinity
	place    *list.Element // without sessions: in State.affinity, guarded by its mu
}

func (r *assignment) indexKey() []byte { return r.key }

// pin is a user whom people sent to a backend. Immutable once inserted.
type pin struct {
	key     []byte
	backend string
	change  Change
}

func (r *pin) indexKey() []byte { return r.key }

// hold is a user whose logins wait. Immutable once inserted.
type hold struct {
	key    []byte
	change Change
	done   chan struct{} // closed when the hold ends; kept when a hold is renewed
}

func (r *hold) indexKey() []byte { return r.key }

// live is what the state knows of a user.
type live struct {
	pin        *pin
	hold       *hold
	assignment *assignment
}

// user returns what the state knows of a user, from one snapshot. No lock is
// taken.
func (s *State) user(key []byte) (live, error) {
	var u live
	var err error
	txn := s.db.Txn(false)
	if s.pins.Load() > 0 {
		if u.pin, err = liveRow[pin](txn, tablePins, key); err != nil {
			return live{}, err
		}
	}
	if s.holds.Load() > 0 {
		if u.hold, err = liveRow[hold](txn, tableHolds, key); err != nil {
			return live{}, err
		}
	}
	u.assignment, err = liveRow[assignment](txn, tableAssignments, key)
	return u, err
}

// liveRow returns the row with a key, or nil when there is none.
func liveRow[T any](txn *memdb.Txn, table string, key []byte) (*T, error) {
	obj, err := txn.First(table, indexID, key)
	if err != nil {
		return nil, fmt.Errorf("look up %s in %s: %w", quote(userOf(key)), table, err)
	}
	if obj == nil {
		return nil, nil //nolint:nilnil // none is an answer
	}
	row, ok := obj.(*T)
	if !ok {
		return nil, fmt.Errorf("look up %s in %s: found a %T", quote(userOf(key)), table, obj)
	}
	return row, nil
}
