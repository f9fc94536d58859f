package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// Client asks a running imapgate, through its unix socket. Use [NewClient] to make
// one. Its methods are safe for concurrent use.
type Client struct {
	socket string
	sudo   string
	http   *http.Client
}

// NewClient returns a client of the imapgate that serves socket. sudoUser is who
// became root to ask, "" for nobody.
func NewClient(socket, sudoUser string) *Client {
	d := &net.Dialer{Timeout: dialTimeout}
	return &Client{socket: socket, sudo: sudoUser, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := d.DialContext(ctx, "unix", socket)
			if err != nil {
				return nil, &UnreachableError{Socket: socket, Err: err}
			}
			return c, nil
		},
	}}}
}

// Close closes connections that are not in use.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// UnreachableError says that no imapgate answers.
type UnreachableError struct {
	Socket string
	Err    error
}

// Error says what may be the reason.
func (e *UnreachableError) Error() string {
	why := e.Err.Error()
	if errno, ok := errors.AsType[syscall.Errno](e.Err); ok {
		why = errno.Error()
	}
	switch {
	case errors.Is(e.Err, fs.ErrNotExist):
		why = "there is no such socket: is imapgate running?"
	case errors.Is(e.Err, syscall.ECONNREFUSED):
		why = "nobody listens: imapgate is not running"
	case errors.Is(e.Err, fs.ErrPermission):
		why = "permission denied: the socket is for imapgate's user and group"
	}
	return fmt.Sprintf("cannot reach imapgate at %s: %s", e.Socket, why)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// ResponseError is an answer other than the one that was asked for.
type ResponseError struct {
	Code int // HTTP status
	Failure
}

// Error returns what the server said is wrong.
func (e *ResponseError) Error() string { return e.Failure.Error }

// BackendPath returns the path of an operation on a backend.
func BackendPath(name, operation string) string {
	return "/v1/backends/" + url.PathEscape(name) + "/" + operation
}

// UserPath returns the path of an operation on a user.
func UserPath(user, operation string) string {
	return "/v1/users/" + url.PathEscape(user) + "/" + operation
}

// CertificatePath returns the path of an operation on a certificate.
func CertificatePath(name, operation string) string {
	return "/v1/certificates/" + url.PathEscape(name) + "/" + operation
}

// RoutePath returns the path of what explains where a user is sent.
func RoutePath(user string) string { return "/v1/route/" + url.PathEscape(user) }

// clientTimeout bounds questions: the server answers or fails within callTimeout.
const clientTimeout = callTimeout + 5*time.Second

// Get asks for what is at a path, and reads the answer into out.
func (c *Client) Get(ctx context.Context, path string, query url.Values, out any) error {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.do(ctx, http.MethodGet, path, "", nil, out)
}

// Post sends in to a path, and reads the answer into out. It may take as long as
// the operation does.
func (c *Client) Post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodPost, path, "application/json", bytes.NewReader(body), out)
}

// Upload sends text to a path, and reads the answer into out.
func (c *Client) Upload(ctx context.Context, path string, query url.Values, text io.Reader, out any) error {
	return c.do(ctx, http.MethodPost, path+"?"+query.Encode(), "text/plain", text, out)
}

// Stream asks for what is at a path, and calls each with the lines of the answer as
// they come.
func (c *Client) Stream(ctx context.Context, path string, query url.Values, each func(line []byte) error) error {
	response, err := c.ask(ctx, http.MethodGet, path+"?"+query.Encode(), "", nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	for lines := bufio.NewScanner(response.Body); ; {
		if !lines.Scan() {
			if err := lines.Err(); err != nil && ctx.Err() == nil {
				return fmt.Errorf("read the answer of imapgate at %s: %w", c.socket, err)
			}
			return nil
		}
		if err := each(lines.Bytes()); err != nil {
			return err
		}
	}
}

// maxAnswer bounds an answer: a million sessions are a few hundred MiB.
const maxAnswer = 1 << 30

func (c *Client) do(ctx context.Context, method, path, kind string, body io.Reader, out any) error {
	response, err := c.ask(ctx, method, path, kind, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("read the answer of imapgate at %s: %w", c.socket, err)
	}
	return nil
}

// ask sends a request, and returns an answer that is no failure.
func (c *Client) ask(ctx context.Context, method, path, kind string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://imapgate"+path, body)
	if err != nil {
		return nil, err
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	if c.sudo != "" {
		r.Header.Set(sudoHeader, c.sudo)
	}
	response, err := c.http.Do(r)
	if unreachable, ok := errors.AsType[*UnreachableError](err); ok {
		return nil, unreachable // without the words of the HTTP client
	}
	if err != nil {
		return nil, fmt.Errorf("ask imapgate at %s: %w", c.socket, plain(err))
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	fail := &ResponseError{Code: response.StatusCode}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&fail.Failure); err != nil || fail.Failure.Error == "" {
		fail.Failure = Failure{Error: "imapgate answers " + response.Status}
	}
	return nil, fail
}

// plain returns the cause of an error of the HTTP client.
func plain(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}
