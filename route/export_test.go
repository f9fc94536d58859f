package route

// Slots is the number of hash slots of every pool.
const Slots = slots

// CountSlots counts the slots of each member of a pool, as lookups find them.
func (t *Table) CountSlots(pool string) map[string]int {
	gen := t.current.Load()
	r, err := gen.rosterFor(t.state.conditions.Load())
	if err != nil {
		panic(err)
	}
	l := r.pools[pool]
	count := make(map[string]int)
	if len(l.usable) > 0 {
		for slot := range uint32(slots) {
			count[best(l.usable, slot).name]++
		}
	}
	return count
}
