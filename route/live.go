package route

import (
	"container/list"
	"maps"
	"time"

	memdb "github.com/hashicorp/go-memdb"
)

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

// assignment says where a user has sessions, or had some a moment ago. The zero
// value is that of a user who is nowhere.
type assignment struct {
	backend  string
	sessions int
	until    time.Duration // without sessions: end of the affinity
	place    *list.Element // without sessions: in State.affinity
}

// assignmentShards is how many maps the assignments are in: with one, whoever walks
// over a million would hold up the logins, and so would giving its memory back.
const assignmentShards = 256

// assignments are the assignments of all users by key. They are not in go-memdb, where
// the rest is: each login and each logout changes one, and a transaction, which copies
// the way to what it changes, is dearer than all else that a login does in this package.
// The zero value has none. mu of the [State] guards them.
type assignments [assignmentShards]struct {
	users map[string]assignment
	most  int // users since the map was made
}

func shardOf(user string) int { return int(hashOf(user) % assignmentShards) }

func (a *assignments) get(user string) assignment { return a[shardOf(user)].users[user] }

// set changes a user's assignment; the zero value deletes it.
func (a *assignments) set(user string, row assignment) {
	shard := &a[shardOf(user)]
	if row != (assignment{}) {
		if shard.users == nil {
			shard.users = make(map[string]assignment)
		}
		shard.users[user] = row
		shard.most = max(shard.most, len(shard.users))
		return
	}
	delete(shard.users, user)
	if n := len(shard.users); n < shard.most/4 { // a map keeps the memory of the most that it ever had
		fewer := make(map[string]assignment, n)
		maps.Copy(fewer, shard.users)
		shard.users, shard.most = fewer, n
	}
}

// copyShard returns the users of one of the maps.
func (a *assignments) copyShard(i int) []assigned {
	users := make([]assigned, 0, len(a[i].users))
	for user, row := range a[i].users {
		users = append(users, assigned{user, row})
	}
	return users
}

// assigned is a user with an assignment.
type assigned struct {
	user string
	assignment
}

// eachAssigned calls f with all who have an assignment, without holding mu all the time:
// of those who log in or out meanwhile it may miss some.
func (s *State) eachAssigned(f func(assigned)) {
	for i := range assignmentShards {
		s.mu.Lock()
		users := s.assignments.copyShard(i)
		s.mu.Unlock()
		for _, u := range users {
			f(u)
		}
	}
}

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
