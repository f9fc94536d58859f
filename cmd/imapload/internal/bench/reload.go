//go:build linux

package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"imapgate/cmd/imapload/internal/load"
)

// writeTable writes a table of users over all backends.
func writeTable(path string, rows int) error {
	file, err := os.Create(path) //nolint:gosec // in a directory that was made here
	if err != nil {
		return err
	}
	out := bufio.NewWriter(file)
	for i := range rows {
		_, _ = fmt.Fprintf(out, "user%d@example.org mail%d\n", i, i%backendCount)
	}
	if err := out.Flush(); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}

// reload measures logins before, and then while the table is read again and again:
// before_p99_ms, p99_ms, reloads, reload_s (the mean of one), rows.
func (in *instance) reload(ctx context.Context, t test, more ...string) (*load.Result, error) {
	before, err := in.load(ctx, t, more...)
	if err != nil {
		return nil, err
	}
	type answer struct {
		figures map[string]float64
		err     error
	}
	var stop atomic.Bool
	reloads := make(chan answer, 1)
	go func() {
		figures, err := in.reloadUntil(ctx, &stop)
		reloads <- answer{figures, err}
	}()
	result, err := in.load(ctx, t, more...)
	stop.Store(true)
	reloaded := <-reloads
	if err != nil {
		return nil, err
	}
	if reloaded.err != nil {
		return nil, reloaded.err
	}
	maps.Copy(result.Figures, reloaded.figures)
	result.Figures["before_p99_ms"] = before.Figures["p99_ms"]
	result.Errors += before.Errors
	return result, nil
}

// reloadUntil reloads at least once, until it is told to stop.
func (in *instance) reloadUntil(ctx context.Context, stop *atomic.Bool) (figures map[string]float64, err error) {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(in.dir, "admin.sock"))
		},
	}}
	var reloads, seconds float64
	for reloads == 0 || !stop.Load() {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://imapgate/v1/reload", strings.NewReader("{}"))
		if err != nil {
			return nil, err
		}
		r.Header.Set("Content-Type", "application/json")
		response, err := client.Do(r)
		if err != nil {
			return nil, fmt.Errorf("reload: %w", err)
		}
		var answer struct {
			OK          bool    `json:"ok"`
			Rows        int     `json:"rows"`
			TookSeconds float64 `json:"took_seconds"`
		}
		err = json.NewDecoder(response.Body).Decode(&answer)
		_ = response.Body.Close()
		switch {
		case err != nil:
			return nil, fmt.Errorf("reload: %s: %w", response.Status, err)
		case !answer.OK || answer.Rows < in.setup.rows:
			return nil, fmt.Errorf("reload: %s, %d rows", response.Status, answer.Rows)
		}
		reloads++
		seconds += answer.TookSeconds
	}
	return map[string]float64{"reloads": reloads, "reload_s": seconds / reloads, "rows": float64(in.setup.rows)}, nil
}
