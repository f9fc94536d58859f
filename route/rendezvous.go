package route

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// slots is the number of hash slots of a pool: users of one slot are placed
// together, and a slot is the unit in which a pool can be told apart. Chance
// decides about each slot: with so many a member that is to have 2 % of them has
// 2 % ± 0.03, a standard deviation of 1.4 % of its share. Nothing stores slots, so
// that their number costs nothing.
const slots = 1 << 18

// placementSeed is the seed of all hashes of placement. Changing it, the number
// of slots, or the bytes that are hashed would move nearly every user of every
// pool to another backend.
const placementSeed = 0x696d617067617465 // "imapgate"

// hashOf returns XXH64 of a normalised name.
func hashOf(key string) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(placementSeed)
	_, _ = d.WriteString(key) // never fails
	return d.Sum64()
}

// slotOf returns the hash slot of a normalised name.
func slotOf(key string) uint32 { return uint32(hashOf(key) % slots) }

// member is a backend as a pool sees it.
type member struct {
	name   string
	weight float64
	self   []string
}

// score is weighted rendezvous hashing: each member draws a number h in (0, 1)
// from the hash of the slot and its own name, and the greatest -weight/ln(h)
// wins. -ln(h) is exponentially distributed, and of exponential clocks with
// rates w the first to ring is the i-th with probability w(i)/Σw: shares follow
// the weights. A member's score depends on itself alone, so one that joins,
// leaves or changes weight moves users to or from itself and no others.
func (m member) score(slot uint32) float64 {
	var d xxhash.Digest
	var prefix [4]byte
	binary.BigEndian.PutUint32(prefix[:], slot)
	d.ResetWithSeed(placementSeed)
	_, _ = d.Write(prefix[:])
	_, _ = d.WriteString(m.name)
	// 52 bits and a half: exact in a float64, and neither 0 nor 1.
	h := (float64(d.Sum64()>>12) + 0.5) / (1 << 52)
	return -m.weight / ln(h)
}

// best returns the member with the greatest score. members is not empty.
func best(members []member, slot uint32) member {
	win := members[0]
	winScore := win.score(slot)
	for _, m := range members[1:] {
		s := m.score(slot)
		if s > winScore || s == winScore && m.name < win.name {
			win, winScore = m, s
		}
	}
	return win
}

// rank returns the names of all members, greatest score first, but for first,
// which goes before them when it is one of them.
func rank(members []member, slot uint32, first string) []string {
	type scored struct {
		name  string
		score float64
	}
	var few [64]scored // keeps pools of common size off the heap
	all := few[:0]
	for _, m := range members {
		score := m.score(slot)
		if m.name == first {
			score = math.Inf(1)
		}
		all = append(all, scored{m.name, score})
	}
	slices.SortFunc(all, func(a, b scored) int {
		switch {
		case a.score > b.score:
			return -1
		case a.score < b.score:
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.name
	}
	return names
}

// ln is the natural logarithm of an x in (0, 1), to within a few units in the
// last place and the same bits on every platform. [math.Log] is assembly on
// some, and Go may fuse a product and a sum on others: proxies on different
// hardware could then rank two members differently. IEEE 754 defines what one
// operation yields, and the explicit conversions keep operations apart.
func ln(x float64) float64 {
	// x = f·2^e with f in [√½, √2), and with s = (f-1)/(f+1)
	// ln f = 2·(s + s³/3 + s⁵/5 + …), where s² < 0.03.
	f, e := math.Frexp(x)
	if f < math.Sqrt2/2 {
		f *= 2
		e--
	}
	s := (f - 1) / (f + 1)
	s2 := float64(s * s)
	sum := 0.0
	for k := 23; k >= 1; k -= 2 {
		sum = float64(sum*s2) + 1/float64(k)
	}
	return float64(float64(2*s)*sum) + float64(float64(e)*math.Ln2)
}
