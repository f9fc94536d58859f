package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"imapgate/proxy/proxytest"
)

// runVariable makes this test binary behave as imapgate, for tests that need a
// process of its own.
const runVariable = "IMAPGATE_TEST_RUN"

// backendVariable makes it a cheap IMAP server at the address that it names.
const backendVariable = "IMAPGATE_TEST_BACKEND"

func TestMain(m *testing.M) {
	if address := os.Getenv(backendVariable); address != "" {
		fmt.Fprintln(os.Stderr, proxytest.ServePlain(context.Background(), address))
		os.Exit(1)
	}
	if os.Getenv(runVariable) != "" {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// command runs a command line in this process.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// writeFiles writes files to a directory.
func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
