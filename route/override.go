package route

import (
	"cmp"
	"container/heap"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	memdb "github.com/hashicorp/go-memdb"
)

// OverrideKind says what an override is about.
type OverrideKind string

// The kinds of overrides.
const (
	OverrideAdmin  OverrideKind = "admin"  // Name is a backend, Value its admin state
	OverrideWeight OverrideKind = "weight" // Name is a backend, Value its weight
	OverridePin    OverrideKind = "pin"    // Name is a user, Value a backend
	OverrideHold   OverrideKind = "hold"   // Name is a user
)

// Override is something that people changed while the proxy ran.
type Override struct {
	Kind  OverrideKind `json:"kind"`
	Name  string       `json:"name"`
	Value string       `json:"value,omitempty"`
	Change
}

// weightValue is a weight as the value of an override: "" is the configured one.
func weightValue(weight int) string {
	if weight == 0 {
		return ""
	}
	return strconv.Itoa(weight)
}

// expired says whether a change counts no more.
func (c Change) expired(now time.Time) bool { return !c.Until.IsZero() && !c.Until.After(now) }

// maxYear is the last year that JSON has a form for.
const maxYear = 9999

// stamp completes a change that is made now.
func (c Change) stamp(now time.Time) (Change, error) {
	if c.expired(now) {
		return c, fmt.Errorf("the end of the change (%s) is in the past", c.Until.Format(time.RFC3339))
	}
	if year := max(c.Until.Year(), c.Deadline.Year()); year > maxYear {
		return c, fmt.Errorf("the year %d is too far away: no end means for good", year)
	}
	if c.Since.IsZero() || c.Since.Year() > maxYear {
		c.Since = now
	}
	// What a file gives back: no monotonic reading, no place.
	c.Since, c.Until, c.Deadline = c.Since.Round(0).UTC(), c.Until.Round(0).UTC(), c.Deadline.Round(0).UTC()
	return c, nil
}

// check returns what is wrong with an override whoever made it.
func (o *Override) check() error {
	switch { // users are called what they are called; backends exist or do not
	case o.Name == "":
		return fmt.Errorf("%s: the name is empty", o.Kind)
	case len(o.Name) > MaxName || !utf8.ValidString(o.Name):
		return fmt.Errorf("%s %s: the name is too long or not UTF-8", o.Kind, quote(o.Name))
	}
	var valid bool
	switch o.Kind {
	case OverrideAdmin:
		valid = o.Value == string(AdminReady) || o.Value == string(AdminDrain) || o.Value == string(AdminMaint)
	case OverrideWeight:
		n, err := strconv.Atoi(o.Value)
		valid = o.Value == "" || err == nil && 0 < n && n <= MaxWeight
	case OverridePin:
		valid = checkName(o.Value) == ""
	case OverrideHold:
		valid = o.Value == ""
	default:
		return fmt.Errorf("%s: unknown kind %s", quote(o.Name), quote(string(o.Kind)))
	}
	if !valid {
		return fmt.Errorf("%s %s: bad value %s", o.Kind, quote(o.Name), quote(o.Value))
	}
	switch {
	case o.Deadline.IsZero():
	case o.Kind != OverrideAdmin || o.Value != string(AdminDrain):
		return fmt.Errorf("%s %s: only a drain has a deadline", o.Kind, quote(o.Name))
	case !o.Until.IsZero() && !o.Deadline.Before(o.Until):
		return fmt.Errorf("%s %s: the deadline (%s) is not before the end of the drain (%s)",
			o.Kind, quote(o.Name), o.Deadline.Format(time.RFC3339), o.Until.Format(time.RFC3339))
	}
	return nil
}

// override makes a change of people, and saves it.
func (s *State) override(o Override, c Change) (err error) {
	if o.Change, err = c.stamp(time.Now()); err != nil {
		return fmt.Errorf("%s %s: %w", o.Kind, quote(o.Name), err)
	}
	if err := o.check(); err != nil {
		return err
	}
	version, err := s.applyChecked(o)
	if err != nil {
		return fmt.Errorf("%s %s: %w", o.Kind, quote(o.Name), err)
	}
	return s.save(version)
}

// applyChecked is apply for a change that must name a backend that exists.
func (s *State) applyChecked(o Override) (version uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch o.Kind {
	case OverrideAdmin, OverrideWeight:
		err = s.checkBackend(o.Name)
	case OverridePin:
		err = s.checkBackend(o.Value)
	case OverrideHold:
	}
	if err != nil {
		return 0, err
	}
	if err := s.apply(o); err != nil {
		return 0, err
	}
	s.version++
	return s.version, nil
}

// apply puts an override in force. mu is held.
func (s *State) apply(o Override) error {
	change := o.Change
	switch o.Kind {
	case OverrideAdmin:
		s.setCondition(o.Name, func(c *condition) {
			c.admin, c.adminChange = Admin(o.Value), &change
			if c.admin == AdminReady {
				c.admin, c.adminChange = "", nil
			}
		})
	case OverrideWeight:
		s.setCondition(o.Name, func(c *condition) {
			c.weight, _ = strconv.Atoi(o.Value) // "" is 0
			c.weightChange = &change
			if c.weight == 0 {
				c.weightChange = nil
			}
		})
	case OverridePin:
		if err := s.put(tablePins, &pin{user: o.Name, backend: o.Value, change: change}); err != nil {
			return err
		}
	case OverrideHold:
		row := &hold{user: o.Name, change: change, done: make(chan struct{})}
		old, err := first[hold](s.db.Txn(false), tableHolds, o.Name)
		if err != nil {
			return err
		}
		if old != nil {
			row.done = old.done
		}
		if err := s.put(tableHolds, row); err != nil {
			return err
		}
	}
	if !o.Until.IsZero() {
		heap.Push(&s.expiries, expiry{o.Until, o.Kind, o.Name})
		s.arm()
	}
	return nil
}

// put inserts or replaces a pin or a hold. mu is held.
func (s *State) put(table string, row indexed) error {
	txn := s.db.Txn(true)
	defer txn.Abort() // does nothing after Commit
	old, err := txn.First(table, indexID, string(row.indexKey()))
	if err != nil {
		return err
	}
	if err := txn.Insert(table, row); err != nil {
		return err
	}
	if old == nil {
		*s.counter(table)++
	}
	txn.Commit()
	return nil
}

// counter returns what counts the rows of a table.
func (s *State) counter(table string) *int {
	if table == tablePins {
		return &s.pins
	}
	return &s.holds
}

// remove deletes a pin or a hold. mu is held.
func (s *State) remove(table string, row indexed) bool {
	txn := s.db.Txn(true)
	defer txn.Abort()
	if err := txn.Delete(table, row); err != nil {
		return false // memdb.ErrNotFound: the one error of a delete by a good key
	}
	txn.Commit()
	*s.counter(table)--
	return true
}

// drop takes a pin or a hold back, and saves that.
func (s *State) drop(kind OverrideKind, name string) bool {
	version, ok := s.dropNow(kind, name)
	if ok {
		// Not to end a hold because a disk is full would be worse than to find it
		// again after a restart; SaveError tells, and the next change saves again.
		_ = s.save(version)
	}
	return ok
}

func (s *State) dropNow(kind OverrideKind, name string) (version uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.take(kind, name, nil) {
		return 0, false
	}
	s.version++
	return s.version, true
}

// take ends an override: whatever there is, or, with until, that which ends
// then. mu is held.
func (s *State) take(kind OverrideKind, name string, until *time.Time) bool {
	ends := func(c Change) bool { return until == nil || c.Until.Equal(*until) }
	switch kind {
	case OverrideAdmin:
		c := s.condition(name).adminChange
		if c == nil || !ends(*c) {
			return false
		}
		s.setCondition(name, func(c *condition) { c.admin, c.adminChange = "", nil })
		return true
	case OverrideWeight:
		c := s.condition(name).weightChange
		if c == nil || !ends(*c) {
			return false
		}
		s.setCondition(name, func(c *condition) { c.weight, c.weightChange = 0, nil })
		return true
	case OverridePin:
		row, err := first[pin](s.db.Txn(false), tablePins, name)
		return err == nil && row != nil && ends(row.change) && s.remove(tablePins, row)
	case OverrideHold:
		row, err := first[hold](s.db.Txn(false), tableHolds, name)
		if err != nil || row == nil || !ends(row.change) || !s.remove(tableHolds, row) {
			return false
		}
		close(row.done)
		return true
	}
	return false
}

// OverrideCounts are numbers of overrides, by kind.
type OverrideCounts struct{ Admin, Weight, Pin, Hold int }

// CountOverrides counts what people changed and is in force, without a look at
// each. The version is another one after every change that people made.
func (s *State) CountOverrides() (counts OverrideCounts, version uint64) {
	for _, c := range *s.conditions.Load() {
		if c.adminChange != nil {
			counts.Admin++
		}
		if c.weightChange != nil {
			counts.Weight++
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	counts.Pin, counts.Hold = s.pins, s.holds
	return counts, s.version
}

// Overrides returns what people changed and is in force, in order of kinds and
// names.
func (s *State) Overrides() []Override {
	now := time.Now()
	list := []Override{}
	add := func(o Override) {
		if !o.expired(now) {
			list = append(list, o)
		}
	}
	for name, c := range *s.conditions.Load() {
		if c.adminChange != nil {
			add(Override{OverrideAdmin, name, string(c.admin), *c.adminChange})
		}
		if c.weightChange != nil {
			add(Override{OverrideWeight, name, weightValue(c.weight), *c.weightChange})
		}
	}
	txn := s.db.Txn(false)
	// An error could only be about the names of the tables.
	_ = each(txn, tablePins, func(r *pin) { add(Override{OverridePin, r.user, r.backend, r.change}) })
	_ = each(txn, tableHolds, func(r *hold) { add(Override{OverrideHold, r.user, "", r.change}) })
	slices.SortFunc(list, func(a, b Override) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return list
}

// each calls f with every row of a table.
func each[T any](txn *memdb.Txn, table string, f func(*T)) error {
	rows, err := txn.Get(table, indexID)
	if err != nil {
		return err
	}
	for obj := rows.Next(); obj != nil; obj = rows.Next() {
		if row, ok := obj.(*T); ok {
			f(row)
		}
	}
	return nil
}
