package main

import "testing"

// TestMemoryIsGivenBackWhenARushIsOver lets many log in, and then nobody.
func TestMemoryIsGivenBackWhenARushIsOver(t *testing.T) {
	var d tidier
	allocated, alive := uint64(0), uint64(2<<20)
	second := func(allocates uint64) bool {
		allocated += allocates
		_, now := d.look(allocated, alive)
		if now {
			d.done(0)
		}
		return now
	}
	for range 10 {
		alive += 4 << 20
		if second(60 << 20) {
			t.Fatal("in the middle of the rush")
		}
	}
	for i := 1; i <= calmSeconds; i++ {
		if now := second(100 << 10); now != (i == calmSeconds) {
			t.Errorf("after %d calm seconds: %v", i, now)
		}
	}
	for range 20 {
		if second(100 << 10) {
			t.Fatal("again, though there is next to nothing to give back")
		}
	}
	// Little by little there is.
	for i := 0; !second(100 << 10); i++ {
		if i > 100 {
			t.Fatal("never again")
		}
	}
}

// TestGivingMemoryBackTakesLittleTime asks that the time between two collections
// grows with what one takes.
func TestGivingMemoryBackTakesLittleTime(t *testing.T) {
	var d tidier
	alive, times := uint64(4<<30), 0
	for i := range uint64(1000) {
		if _, now := d.look(i*(100<<20), alive); now {
			d.done(2 * tidyEvery)
			times++
		}
	}
	if times < 2 || times > 6 {
		t.Errorf("%d times in 1000 seconds", times)
	}
}

// TestGarbageIsBounded asks how much of it there may be.
func TestGarbageIsBounded(t *testing.T) {
	var d tidier
	for alive, want := range map[uint64]int{
		0: smallPercent, 1 << 20: smallPercent, 16 << 20: 100, 32 << 20: tidyPercent, 1 << 40: tidyPercent,
	} {
		if got, _ := d.look(0, alive); got != want {
			t.Errorf("of %d bytes: %d%%, want %d%%", alive, got, want)
		}
	}
}
