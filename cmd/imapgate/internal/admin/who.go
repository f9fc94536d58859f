package admin

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strings"
)

// peer is who is at the other end of a connection.
type peer struct {
	name string
	root bool // and so may say in whose name root acts
}

// peerKey is the key of the peer in the context of a connection, callerKey that
// of the name of a token in the context of a request.
type (
	peerKey   struct{}
	callerKey struct{}
)

// sudoHeader names the user who became root to ask. Only root is believed.
const sudoHeader = "Imapgate-Sudo-User"

// withPeer notes who connected.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if unixConn, ok := c.(*net.UnixConn); ok {
		if p, ok := peerOf(unixConn); ok {
			return context.WithValue(ctx, peerKey{}, p)
		}
	}
	return ctx
}

var userForm = regexp.MustCompile(`^[A-Za-z0-9._][A-Za-z0-9._@-]{0,63}$`)

// who returns who asks: the user at the other end of the socket, or the name of
// the token.
func (s *Server) who(r *http.Request) string {
	if p, ok := r.Context().Value(peerKey{}).(peer); ok {
		if name := r.Header.Get(sudoHeader); p.root && userForm.MatchString(name) {
			return name + " (sudo)"
		}
		return p.name
	}
	if name, ok := r.Context().Value(callerKey{}).(string); ok {
		return name
	}
	return "somebody on this host"
}

// Tokens are the bearer tokens that are accepted on TCP.
type Tokens struct {
	tokens []token
}

// token is one of them, as its hash: a comparison then takes the same time
// whatever was sent.
type token struct {
	name string
	sum  [sha256.Size]byte
}

// minToken is the length of the shortest token.
const minToken = 16

// ReadTokens reads a file of tokens. Each line holds one, behind a name for the
// log if there are several; # begins a comment.
func ReadTokens(path string) (*Tokens, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the operator's configuration names it
	if err != nil {
		return nil, err
	}
	defer clear(data)
	t := new(Tokens)
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if len(words) == 1 {
			words = []string{"token", words[0]}
		}
		switch {
		case len(words) > 2 || !userForm.MatchString(words[0]):
			return nil, fmt.Errorf("%s:%d: expected a token, or a name and a token", path, n)
		case len(words[1]) < minToken:
			return nil, fmt.Errorf("%s:%d: the token is shorter than %d characters", path, n, minToken)
		}
		t.tokens = append(t.tokens, token{words[0], sha256.Sum256([]byte(words[1]))})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(t.tokens) == 0 {
		return nil, fmt.Errorf("%s: %w", path, errors.New("it holds no token"))
	}
	return t, nil
}

// find returns the name of a token.
func (t *Tokens) find(text string) (name string, ok bool) {
	sum := sha256.Sum256([]byte(text))
	for _, known := range t.tokens {
		if subtle.ConstantTimeCompare(sum[:], known.sum[:]) == 1 {
			name, ok = known.name, true
		}
	}
	return name, ok
}

// SetTokens makes callers over TCP show one of the tokens. Nil lets everybody in
// who can connect.
func (s *Server) SetTokens(t *Tokens) { s.tokens.Store(t) }

// open says whether a path needs no token: what is not secret, and asked for by
// what has none.
func open(path string) bool {
	return path == "/healthz" || path == "/readyz" ||
		!strings.HasPrefix(path, "/v1/") && path != "/metrics"
}

// authenticate asks callers over TCP for a token, if there are any.
func (s *Server) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if t := s.tokens.Load(); t != nil && !open(r.URL.Path) {
			scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			name, ok := t.find(strings.TrimSpace(text))
			if !ok || !strings.EqualFold(scheme, "Bearer") {
				w.Header().Set("WWW-Authenticate", `Bearer realm="imapgate"`)
				s.fail(w, r, failf(http.StatusUnauthorized, "a bearer token is needed"))
				return
			}
			r = r.WithContext(context.WithValue(r.Context(), callerKey{}, name))
		}
		next.ServeHTTP(w, r)
	})
}

// checkHost keeps requests without a token to this host: those that came to
// another address, and those for another name. A site whose name is made to
// resolve to a loopback address would be of the same origin as the API.
func (s *Server) checkHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.tokens.Load() == nil {
			at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
			if !ok || !isLoopback(at.String()) || !isLoopback(r.Host) {
				s.fail(w, r, failf(http.StatusMisdirectedRequest, "without a token this is for localhost alone, not for %q", r.Host))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func isLoopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	at, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && at.Unmap().IsLoopback()
}
