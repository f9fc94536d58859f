//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	_, _ = fmt.Fprintln(os.Stderr, "imapload: runs on Linux alone, where it reads /proc and pins processes to CPUs")
	os.Exit(1)
}
