package route

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// someSlots are as many as say something about all of them, and take no time.
const someSlots = slots / 16

func members(weights ...float64) []member {
	var ms []member
	for i, w := range weights {
		name := fmt.Sprintf("mail%d", i+1)
		ms = append(ms, member{name: name, weight: w, self: []string{name}})
	}
	return ms
}

// The expectations were computed apart from this code, by another
// implementation of XXH64 with another logarithm. If this test fails, the change
// under test would move the users of every pool: it is the change that is wrong.
func TestPlacementVectorNeverChanges(t *testing.T) {
	pool := members(100, 200, 100, 50)
	for _, tt := range []struct {
		key  string
		slot uint32
		rank string
	}{
		{"alice@example.org", 96313, "mail2 mail4 mail3 mail1"},
		{"bob@example.org", 215505, "mail2 mail3 mail1 mail4"},
		{"carol@example.org", 99601, "mail3 mail1 mail2 mail4"},
		{"dave", 127847, "mail1 mail2 mail3 mail4"},
		{"ärzte@klinik.example", 184367, "mail1 mail3 mail2 mail4"},
		{"a.very.long.name.of.somebody@a.very.long.domain.example.org", 12337, "mail2 mail3 mail1 mail4"},
		{"u1@x.example", 201783, "mail3 mail4 mail1 mail2"},
		{"u2@x.example", 88715, "mail3 mail2 mail1 mail4"},
	} {
		if slot := slotOf(tt.key); slot != tt.slot {
			t.Errorf("slot of %s is %d, want %d", tt.key, slot, tt.slot)
		}
		if got := strings.Join(rank(pool, slotOf(tt.key), ""), " "); got != tt.rank {
			t.Errorf("rank of %s is %s, want %s", tt.key, got, tt.rank)
		}
	}
}

func TestSharesFollowWeights(t *testing.T) {
	pool := members(100, 200, 50, 100, 1)
	total := 0.0
	for _, m := range pool {
		total += m.weight
	}
	for place := range 2 { // of the first, and of the second when the first is down
		got := make(map[string]int)
		for slot := range uint32(someSlots) {
			names := rank(pool, slot, "")
			if place == 0 || names[0] == "mail2" {
				got[names[place]]++
			}
		}
		all := 0
		for _, n := range got {
			all += n
		}
		for _, m := range pool {
			want := m.weight / total
			if place == 1 {
				if m.name == "mail2" {
					continue
				}
				want = m.weight / (total - 200)
			}
			share := float64(got[m.name]) / float64(all)
			deviation := math.Sqrt(want * (1 - want) / float64(all))
			if math.Abs(share-want) > 4*deviation {
				t.Errorf("place %d: %s has %.4f of the slots, want %.4f ± %.4f", place+1, m.name, share, want, deviation)
			}
		}
	}
}

func TestMemberThatJoinsMovesItsShareAndNobodyElse(t *testing.T) {
	before := members(100, 100, 100, 100)
	after := members(100, 100, 100, 100, 100)
	moved := 0
	for slot := range uint32(someSlots) {
		was, is := best(before, slot).name, best(after, slot).name
		switch {
		case was == is:
		case is == "mail5":
			moved++
		default:
			t.Fatalf("slot %d moved from %s to %s", slot, was, is)
		}
		// The order of the others stays, and so does failover.
		rest := slices.DeleteFunc(rank(after, slot, ""), func(name string) bool { return name == "mail5" })
		if !slices.Equal(rest, rank(before, slot, "")) {
			t.Fatalf("slot %d: rank %v became %v", slot, rank(before, slot, ""), rest)
		}
	}
	if share := float64(moved) / someSlots; share < 0.18 || share > 0.22 {
		t.Errorf("%.3f of the slots moved, want about a fifth", share)
	}
}

func TestMoreWeightMovesUsersToItsBackendAlone(t *testing.T) {
	before, after := members(100, 100, 100), members(100, 150, 100)
	for slot := range uint32(someSlots) {
		was, is := best(before, slot).name, best(after, slot).name
		if was != is && is != "mail2" {
			t.Fatalf("slot %d moved from %s to %s", slot, was, is)
		}
	}
}

func TestOrderOfMembersDoesNotMatter(t *testing.T) {
	pool := members(100, 70, 100, 30, 100)
	turned := slices.Clone(pool)
	slices.Reverse(turned)
	for slot := range uint32(someSlots) {
		if a, b := rank(pool, slot, ""), rank(turned, slot, ""); !slices.Equal(a, b) || best(turned, slot).name != a[0] {
			t.Fatalf("slot %d: %v and %v", slot, a, b)
		}
	}
}

func TestLogarithmIsExactEnough(t *testing.T) {
	check := func(x float64) {
		t.Helper()
		if got, want := ln(x), math.Log(x); math.Abs(got-want) > 1e-14*math.Abs(want) {
			t.Errorf("ln(%v) = %v, want %v", x, got, want)
		}
	}
	const least = 0.5 / (1 << 52)
	for x := 1 - 2*least; x > least; x *= 0.9937 {
		check(x)
		check(1 - x)
	}
	check(least)
	check(1 - least*2)
	// The same bits everywhere.
	if got := math.Float64bits(ln(0.1)); got != 0xc0026bb1bbb55515 {
		t.Errorf("ln(0.1) is %#x", got)
	}
}
