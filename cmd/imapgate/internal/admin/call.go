package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"
)

const (
	maxBody     = 1 << 20          // of a request in JSON
	callTimeout = 30 * time.Second // of a request that is not long, body and answer included
)

// apiError is an error that the caller is told, with its status code.
type apiError struct {
	code    int
	text    string
	details []string
}

// Error returns the text.
func (e *apiError) Error() string { return e.text }

func failf(code int, format string, args ...any) error {
	return &apiError{code: code, text: fmt.Sprintf(format, args...)}
}

// call is one request to an endpoint.
type call struct {
	*http.Request
	by string // who asks
}

// decode reads a body of JSON: one value, of known fields. No body is {}.
func (c *call) decode(into any) error {
	body, err := io.ReadAll(c.Body)
	if err != nil {
		return bodyError(err)
	}
	if len(body) == 0 {
		return nil
	}
	if kind, _, err := mime.ParseMediaType(c.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return failf(http.StatusUnsupportedMediaType, "the body must be application/json")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return failf(http.StatusBadRequest, "bad JSON: %v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return failf(http.StatusBadRequest, "bad JSON: something follows the value")
	}
	return nil
}

// bodyError is the error of a body that could not be read.
func bodyError(err error) error {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return failf(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", tooLarge.Limit)
	}
	return failf(http.StatusBadRequest, "read the body: %v", err)
}

// checkQuery refuses parameters that an endpoint does not know.
func (c *call) checkQuery(known []string) error {
	query, err := parseQuery(c.URL.RawQuery)
	if err != nil {
		return err
	}
	for name, values := range query {
		switch {
		case !slices.Contains(known, name):
			return failf(http.StatusBadRequest, "unknown parameter %q", name)
		case len(values) > 1:
			return failf(http.StatusBadRequest, "parameter %q comes twice", name)
		}
	}
	return nil
}

// number returns a parameter that is a whole number, otherwise def.
func (c *call) number(name string, def int) (int, error) {
	text := c.URL.Query().Get(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, failf(http.StatusBadRequest, "%s=%q is not a number", name, text)
	}
	return n, nil
}

// serve answers one request to an endpoint.
func (s *Server) serve(e endpoint, w http.ResponseWriter, r *http.Request) {
	if e.long {
		setDeadline(w, time.Time{})
	}
	if e.in != nil || e.method == http.MethodGet {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	}
	c := &call{Request: r, by: s.who(r)}
	out, err := s.answer(e, c)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, out)
}

// answer does what a request asks for.
func (s *Server) answer(e endpoint, c *call) (any, error) {
	if e.local && !isLocal(c.Request) {
		return nil, errNotLocal
	}
	if err := c.checkQuery(e.query); err != nil {
		return nil, err
	}
	if e.changes {
		done, err := s.changing()
		if err != nil {
			return nil, err
		}
		defer done()
	}
	return e.serve(s, c)
}

// fail answers a request that did not succeed.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	fail, ok := errors.AsType[*apiError](err)
	if !ok {
		fail = &apiError{code: http.StatusInternalServerError, text: err.Error()}
		if r.Context().Err() == nil {
			s.log.Error("request failed", zap.String("path", r.URL.Path), zap.Error(err))
		}
	}
	writeJSON(w, fail.code, Failure{Error: fail.text, Details: fail.details})
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		b.Reset()
		code = http.StatusInternalServerError
		_ = enc.Encode(Failure{Error: err.Error()})
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(code)
	_, _ = w.Write(b.Bytes()) // whoever asked has gone
}
