//go:build linux

/*
Package bench measures imapgate beside other proxies on one machine: each in turn on
a CPU of its own, with the same load and the same backend on the others.

	bench.go      Run: rounds, targets, tests; how often a sample is repeated
	target.go     the proxies, and how each is started
	test.go       what is measured
	instance.go   one running target with its backend
	reload.go     the test that reloads a large table under logins
	process.go    processes: pinned to CPUs, and ended by their id
	layout.go     directory, certificate, ports
	sample.go     samples, and their medians
	report.go     the table
	goals.go      what imapgate wants to be
	templates/    configurations of the proxies

All listen on loopback addresses. What is started runs in process groups of its own,
and is ended with the benchmark, however that ends.
*/
package bench
