package route_test

import (
	"testing"
	"testing/synctest"
	"time"

	"imapgate/route"
)

// TestGentleLoadRestsUntilItIsToHurry loads many rows in virtual time, which passes
// only while nobody works.
func TestGentleLoadRestsUntilItIsToHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def, rows, _ := largeRows(100_000)
		load := func(gently <-chan struct{}) time.Duration {
			began := time.Now()
			def.Gently = gently
			if err := route.New().Load(def, rows, false); err != nil {
				t.Fatal(err)
			}
			return time.Since(began)
		}
		if rested := load(nil); rested != 0 {
			t.Errorf("a load in a hurry rested for %v", rested)
		}
		hurry := make(chan struct{})
		close(hurry)
		if rested := load(hurry); rested != 0 {
			t.Errorf("a load that is to hurry from the beginning rested for %v", rested)
		}
	})
}
