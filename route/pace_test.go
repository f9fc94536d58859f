package route

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestAGentleLoadRestsUntilItIsToHurry counts how long a load rests for 640 rows, each
// of which takes 10 µs.
func TestAGentleLoadRestsUntilItIsToHurry(t *testing.T) {
	t.Parallel()
	hurry := func() <-chan struct{} {
		c := make(chan struct{})
		close(c)
		return c
	}
	const rows, work = 640, 10 * time.Microsecond
	for name, tc := range map[string]struct {
		hurry func() <-chan struct{} // called in the bubble
		want  time.Duration
	}{
		"in a hurry":           {func() <-chan struct{} { return nil }, 0},
		"gently":               {func() <-chan struct{} { return make(chan struct{}) }, restAfter(rows * work)},
		"gently until it ends": {hurry, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				p := NewPace(tc.hurry())
				for range rows {
					<-time.After(work)
					p.step()
				}
				if rested := time.Since(began) - rows*work; rested != tc.want {
					t.Errorf("rested for %v, want %v", rested, tc.want)
				}
			})
		})
	}
}

func TestAGentleLoadRestsLongerWhenOthersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const work, late = time.Millisecond, 2 * time.Millisecond
		p := NewPace(make(chan struct{}))
		p.late = late
		for _, want := range []time.Duration{restAfter(work + late), restAfter(work)} {
			<-time.After(work)
			began := time.Now()
			for range 16 {
				p.step()
			}
			if got := time.Since(began); got != want {
				t.Errorf("rested for %v, want %v", got, want)
			}
		}
	})
}
