//go:build !linux

package main

// descriptors returns 0: nothing is known of how many there may be.
func descriptors() int { return 0 }

// setCoreDumps does nothing: whether there are core dumps is the system's to say.
func setCoreDumps(bool) error { return nil }
