package route

import memdb "github.com/hashicorp/go-memdb"

// Tables of the live state, which people change.
const (
	tablePins  = "pins"  // *pin, one per pinned user
	tableHolds = "holds" // *hold, one per held user
)

func newLiveDatabase() (*memdb.MemDB, error) {
	schema := &memdb.DBSchema{Tables: make(map[string]*memdb.TableSchema)}
	for _, name := range []string{tablePins, tableHolds} {
		schema.Tables[name] = &memdb.TableSchema{
			Name: name,
			Indexes: map[string]*memdb.IndexSchema{
				// Serves what a login asks about its user, and walks over all users.
				indexID: {Name: indexID, Unique: true, Indexer: keyIndex{}},
			},
		}
	}
	return memdb.NewMemDB(schema)
}

// pin is a user whom people sent to a backend. Immutable once inserted.
type pin struct {
	user    string
	backend string
	change  Change
}

func (r *pin) indexKey() []byte { return []byte(r.user) }

// hold is a user whose logins wait. Immutable once inserted.
type hold struct {
	user   string
	change Change
	done   chan struct{} // closed when the hold ends; kept when a hold is renewed
}

func (r *hold) indexKey() []byte { return []byte(r.user) }

// live is what the state knows of a user.
type live struct {
	pin        *pin
	hold       *hold
	assignment assignment
}

// user returns what the state knows of a user. mu is held.
func (s *State) user(user string) (live, error) {
	u := live{assignment: s.assignments.get(user)}
	var err error
	if s.pins > 0 {
		if u.pin, err = first[pin](s.db.Txn(false), tablePins, user); err != nil {
			return live{}, err
		}
	}
	if s.holds > 0 {
		u.hold, err = first[hold](s.db.Txn(false), tableHolds, user)
	}
	return u, err
}
