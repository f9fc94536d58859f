package route

import "fmt"

const defaultMaxShrink = 50

// ShrinkError refuses a load that would drop too many rows of the table in
// force: an export that stopped half-way, or the table of somewhere else.
type ShrinkError struct {
	Old     int // rows in force, users and domains
	New     int // rows of the refused table
	Dropped int // rows in force whose keys the refused table lacks
	Max     int // percentage that may be dropped
}

// Error says how much would be lost and what to do if that is meant.
func (e *ShrinkError) Error() string {
	return fmt.Sprintf("the new table has %d rows and drops %d of the %d in force (%d %%, max_shrink is %d %%): refused; force the reload or raise max_shrink if this is meant",
		e.New, e.Dropped, e.Old, e.Dropped*100/e.Old, e.Max)
}

// checkShrink compares the keys of two generations. A row counts as dropped
// when its key is gone, whatever came instead: a table of the right size for
// the wrong users is refused too.
func checkShrink(old, next *generation, maxShrink int, pace *Pace) error {
	if maxShrink == 0 {
		maxShrink = defaultMaxShrink
	}
	dropped := 0
	for _, table := range []string{tableUsers, tableDomains} {
		err := walkBoth(old.db.Txn(false), next.db.Txn(false), table, func(a, b *targetRow) error {
			pace.step()
			if a != nil && b == nil {
				dropped++
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("compare with the table in force: %w", err)
		}
	}
	if dropped*100 > old.stats.Rows*maxShrink {
		return &ShrinkError{Old: old.stats.Rows, New: next.stats.Rows, Dropped: dropped, Max: maxShrink}
	}
	return nil
}
