//go:build linux && race

package main

// raceFlags make go build use what go test -race has compiled already.
var raceFlags = []string{"-race"}
