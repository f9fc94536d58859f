package imap

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goimap "github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// loginServer is another implementation's server that tells what it understood.
type loginServer struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newLoginServer(tb testing.TB) *loginServer {
	tb.Helper()
	ls := &loginServer{accept: make(chan net.Conn), closed: make(chan struct{})}
	srv := imapserver.New(&imapserver.Options{
		NewSession: func(c *imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
			conn, ok := c.NetConn().(*memoryConn)
			if !ok {
				return nil, nil, net.ErrClosed
			}
			return &loginSession{conn: conn}, nil, nil
		},
		Caps:         goimap.CapSet{goimap.CapIMAP4rev1: {}, goimap.CapLiteralMinus: {}},
		InsecureAuth: true,
		Logger:       silent{},
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ls)
	}()
	tb.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return ls
}

// logins returns the names and passwords that the server gets from a client that sends
// input and, at some offsets, waits to be asked to go on. It is none when the server
// refuses the first command: what it makes of the rest, which may be a literal that
// nobody waited for, is then another server's mistake.
func (ls *loginServer) logins(input []byte, waits []int) [][2]string {
	conn := &memoryConn{in: input, waits: waits, closed: make(chan struct{})}
	ls.accept <- conn
	<-conn.closed
	if conn.refused.Load() {
		return nil
	}
	return conn.logins
}

func (ls *loginServer) Accept() (net.Conn, error) {
	select {
	case c := <-ls.accept:
		return c, nil
	case <-ls.closed:
		return nil, net.ErrClosed
	}
}

func (ls *loginServer) Close() error {
	ls.once.Do(func() { close(ls.closed) })
	return nil
}

func (ls *loginServer) Addr() net.Addr { return &net.TCPAddr{} }

// memoryConn gives its input, as far as the server asks for it, and drops what is
// written.
type memoryConn struct {
	in     []byte
	at     int   // in in, of the next octet
	waits  []int // offsets in in
	once   sync.Once
	closed chan struct{}
	logins [][2]string // owned by the session until closed

	asked   atomic.Bool // to go on
	called  atomic.Bool // the session's Login was
	refused atomic.Bool // a command was, before that
}

func (c *memoryConn) Read(p []byte) (int, error) {
	if len(c.waits) > 0 && c.at == c.waits[0] {
		if !c.asked.Swap(false) {
			return 0, io.EOF
		}
		c.waits = c.waits[1:]
	}
	end := len(c.in)
	if len(c.waits) > 0 {
		end = c.waits[0]
	}
	if c.at == end {
		return 0, io.EOF
	}
	n := copy(p, c.in[c.at:end])
	c.at += n
	return n, nil
}

func (c *memoryConn) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		if line[0] == '+' {
			c.asked.Store(true)
		}
		if bytes.Contains(line, []byte(" BAD ")) && !c.called.Load() {
			c.refused.Store(true)
		}
	}
	return len(p), nil
}

func (c *memoryConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *memoryConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *memoryConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *memoryConn) SetDeadline(time.Time) error      { return nil }
func (c *memoryConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memoryConn) SetWriteDeadline(time.Time) error { return nil }

// silent logs nothing.
type silent struct{}

func (silent) Printf(string, ...any) {}

// loginSession has no more than the methods that are called before a login.
type loginSession struct {
	imapserver.Session
	conn *memoryConn
}

func (s *loginSession) Close() error { return nil }

// Login fails, so that no other command gets anywhere.
func (s *loginSession) Login(user, pass string) error {
	s.conn.called.Store(true)
	s.conn.logins = append(s.conn.logins, [2]string{user, pass})
	return imapserver.ErrAuthFailed
}

// compareLogin reports whether both implementations accept the first command of input as a LOGIN, and fails when
// they then got different arguments.
func compareLogin(t *testing.T, ls *loginServer, input []byte) bool {
	t.Helper()
	src := bytes.NewReader(input)
	cr := &CommandReader{R: NewReader(src)}
	read := func() int { return len(input) - src.Len() - cr.R.Buffered() }
	var waits []int
	cr.Continue = func(string, string) error {
		waits = append(waits, read())
		return nil
	}
	c, err := cr.ReadCommand()
	if err != nil || c.Name != "LOGIN" {
		return false
	}
	user, pass, err := c.Login()
	if err != nil {
		return false
	}
	sent := input[:read()]
	theirs := ls.logins(sent, waits)
	if len(theirs) == 0 {
		return false
	}
	if len(theirs) > 1 || theirs[0] != [2]string{string(user), string(pass)} {
		t.Errorf("%q: got %q and %q, go-imap got %q", sent, user, pass, theirs)
	}
	return true
}

func TestLoginIsWhatAnotherServerUnderstands(t *testing.T) {
	ls := newLoginServer(t)
	both := 0
	for _, test := range loginTests {
		if compareLogin(t, ls, []byte("a LOGIN"+test.args+"\r\n")) {
			both++
		} else if test.err == "" {
			t.Logf("go-imap refuses LOGIN%s", test.args)
		}
	}
	if both < 12 {
		t.Errorf("only %d logins are accepted by both", both)
	}
}

// FuzzLoginDifferential looks for a LOGIN that two servers understand differently: one would route a user whom the
// other does not authenticate.
func FuzzLoginDifferential(f *testing.F) {
	for _, test := range loginTests {
		f.Add([]byte("a LOGIN" + test.args + "\r\n"))
	}
	for _, said := range transcripts(f, "C") {
		f.Add([]byte(said))
	}
	ls := newLoginServer(f)
	f.Fuzz(func(t *testing.T, input []byte) {
		compareLogin(t, ls, input)
	})
}
