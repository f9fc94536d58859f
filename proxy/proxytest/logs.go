package proxytest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// checkLog compares the log section with what was logged.
func (r *runner) checkLog() error {
	entries := r.logs.All()
	at := 0
	var told []int
	for _, want := range r.script.log {
		level, message, fields, err := parseLogLine(want.text)
		if err != nil {
			return fmt.Errorf("%s:%d: %w", r.script.file, want.line, err)
		}
		i := slices.IndexFunc(entries[at:], func(e observer.LoggedEntry) bool {
			return e.Level.String() == level && e.Message == message && r.hasFields(e, fields)
		})
		if i < 0 {
			return fmt.Errorf("%s:%d: not logged, or not in this order: %s", r.script.file, want.line, want.text)
		}
		told = append(told, at+i)
		at += i + 1
	}
	for i, e := range entries {
		if e.Level >= zapcore.ErrorLevel && !slices.Contains(told, i) {
			return fmt.Errorf("%s: logged, and not in the transcript: %s", r.script.file, printEntry(e))
		}
	}
	return nil
}

// parseLogLine reads: level, message in any number of words, fields.
func parseLogLine(s string) (level, message string, fields map[string]string, err error) {
	words, err := splitWords(s)
	if err != nil || len(words) < 2 {
		return "", "", nil, fmt.Errorf("want a level and a message: %q: %w", s, err)
	}
	level = words[0]
	fields = make(map[string]string)
	for _, w := range words[1:] {
		key, value, ok := strings.Cut(w, "=")
		if !ok {
			message = strings.TrimSpace(message + " " + w)
			continue
		}
		if strings.HasPrefix(value, `"`) {
			if value, err = strconv.Unquote(value); err != nil {
				return "", "", nil, err
			}
		}
		fields[key] = value
	}
	return level, message, fields, nil
}

func (r *runner) hasFields(e observer.LoggedEntry, want map[string]string) bool {
	got := logFields(e)
	for key, value := range want {
		if id := r.client; id != nil && value == sessionWord {
			value = id.tags.values[sessionWord]
		}
		if got[key] != value {
			return false
		}
	}
	return true
}

func logFields(e observer.LoggedEntry) map[string]string {
	m := make(map[string]string)
	for key, value := range e.ContextMap() {
		m[key] = fmt.Sprint(value)
	}
	return m
}

func printEntry(e observer.LoggedEntry) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", e.Level, e.Message)
	fields := logFields(e)
	keys := make([]string, 0, len(fields))
	for key := range fields {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		value := fields[key]
		if strings.ContainsAny(value, " \"\n=") || value == "" {
			value = strconv.Quote(value)
		}
		fmt.Fprintf(&b, " %s=%s", key, value)
	}
	return b.String()
}

func (r *runner) printLog() string {
	var b strings.Builder
	if r.logs == nil {
		return ""
	}
	for _, e := range r.logs.All() {
		b.WriteString("\t" + printEntry(e) + "\n")
	}
	return b.String()
}
