package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"imapgate/proxy"
)

// What clients are told last.
const (
	byeLost   = "* BYE [UNAVAILABLE] Connection to the mail store lost.\r\n"
	byeKicked = "* BYE [UNAVAILABLE] Disconnected by the operator.\r\n"
)

// series are responses one after the other, until there are at least n bytes.
func series(r *rand.Rand, n int) (all []byte, boundaries map[int]bool) {
	boundaries = map[int]bool{0: true}
	for len(all) < n {
		if r.IntN(3) == 0 {
			literal := make([]byte, r.IntN(min(n, 256<<10)))
			for i := range literal {
				literal[i] = byte(r.Uint32())
			}
			all = fmt.Appendf(all, "* 1 FETCH (BODY[] {%d}\r\n%s)\r\n", len(literal), literal)
		} else {
			all = fmt.Appendf(all, "* %d EXISTS\r\n", r.IntN(100))
		}
		boundaries[len(all)] = true
	}
	return all, boundaries
}

// dribble writes p in pieces of any size.
func dribble(w io.Writer, r *rand.Rand, p []byte) error {
	for len(p) > 0 {
		n := min(len(p), 1+r.IntN(1<<r.IntN(18)))
		if _, err := w.Write(p[:n]); err != nil {
			return err
		}
		if p = p[n:]; r.IntN(8) == 0 {
			<-time.After(time.Duration(r.IntN(200)) * time.Microsecond)
		}
	}
	return nil
}

// walker is one session of the stress.
type walker struct {
	st         *street
	r          *rand.Rand
	user       string
	withTLS    bool
	up, down   []byte
	boundaries map[int]bool
}

// The ways in which sessions go.
var walks = []func(*walker) error{
	(*walker).talk, (*walker).talk, (*walker).chat, (*walker).chat, (*walker).readLate,
	(*walker).clientResets, (*walker).backendResets, (*walker).backendGoes, (*walker).kicked,
}

// expect reads all that comes, which has to be want.
func expect(in io.Reader, want []byte) error {
	got, err := io.ReadAll(in)
	switch {
	case err != nil:
		return fmt.Errorf("after %d of %d bytes: %w", len(got), len(want), err)
	case !bytes.Equal(got, want):
		return fmt.Errorf("%d bytes came, %d were sent, or they are others", len(got), len(want))
	}
	return nil
}

func (w *walker) open(backend func(net.Conn, *bufio.Reader) error) (net.Conn, *bufio.Reader, chan error, error) {
	done := make(chan error, 1)
	nc, in, err := w.st.login(w.user, w.withTLS, func(nc net.Conn, in *bufio.Reader) { done <- backend(nc, in) })
	return nc, in, done, err
}

func endWriting(nc net.Conn) error {
	if h, ok := nc.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errors.ErrUnsupported
}

// reset makes the close of a connection a reset.
func reset(nc net.Conn) {
	if tc, ok := nc.(*tls.Conn); ok {
		nc = tc.NetConn()
	}
	if t, ok := nc.(torn); ok {
		nc = t.Conn
	}
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = nc.Close()
}

// talk sends a lot both ways at once, and ends with half-closes.
func (w *walker) talk() error {
	br := rand.New(rand.NewPCG(w.r.Uint64(), 1))
	nc, in, done, err := w.open(func(nc net.Conn, in *bufio.Reader) error {
		written := make(chan error, 1)
		go func() { written <- dribble(nc, br, w.down) }()
		err := expect(in, w.up)
		return errors.Join(err, <-written)
	})
	if err != nil {
		return err
	}
	defer nc.Close()
	written := make(chan error, 1)
	go func() {
		err := dribble(nc, w.r, w.up)
		written <- errors.Join(err, endWriting(nc))
	}()
	err = expect(in, w.down)
	return errors.Join(err, <-written, <-done)
}

// chat goes to and fro, with pauses.
func (w *walker) chat() error {
	nc, in, done, err := w.open(func(nc net.Conn, in *bufio.Reader) error {
		for {
			line, err := in.ReadString('\n')
			if errors.Is(err, io.EOF) && line == "" {
				return nil
			}
			if err == nil {
				_, err = io.WriteString(nc, "* "+line)
			}
			if err != nil {
				return err
			}
		}
	})
	if err != nil {
		return err
	}
	defer nc.Close()
	for i := range 1 + w.r.IntN(200) {
		said := fmt.Sprintf("a%d NOOP\r\n", i)
		if _, err := io.WriteString(nc, said); err != nil {
			return err
		}
		if heard, err := in.ReadString('\n'); heard != "* "+said {
			return fmt.Errorf("said %q, heard %q: %w", said, heard, err)
		}
		if w.r.IntN(8) == 0 {
			<-time.After(time.Duration(w.r.IntN(500)) * time.Microsecond)
		}
	}
	err = endWriting(nc)
	return errors.Join(err, expect(in, nil), <-done)
}

// readLate reads nothing before all has been written: the way to the client is
// blocked, and the other one goes on.
func (w *walker) readLate() error {
	heard := make(chan error, 1)
	nc, in, done, err := w.open(func(nc net.Conn, in *bufio.Reader) error {
		written := make(chan error, 1)
		go func() {
			_, err := nc.Write(w.down)
			written <- err
		}()
		got := make([]byte, len(w.up))
		_, err := io.ReadFull(in, got)
		if err == nil && !bytes.Equal(got, w.up) {
			err = errors.New("other bytes came")
		}
		heard <- err
		return errors.Join(<-written, expect(in, nil))
	})
	if err != nil {
		return err
	}
	defer nc.Close()
	if _, err := nc.Write(w.up); err != nil {
		return err
	}
	if err := <-heard; err != nil {
		return err
	}
	err = endWriting(nc)
	return errors.Join(err, expect(in, w.down), <-done)
}

// prefix reads all that comes. It has to be the beginning of what was sent, and a
// BYE only where a response ends.
func (w *walker) prefix(in io.Reader, byes ...string) error {
	got, _ := io.ReadAll(in) // it may have been reset
	passed, told := got, false
	for _, bye := range byes {
		if !told {
			passed, told = bytes.CutSuffix(got, []byte(bye))
		}
	}
	switch {
	case !bytes.HasPrefix(w.down, passed):
		return fmt.Errorf("after %d bytes there are others than were sent", len(got))
	case told && !w.boundaries[len(passed)]:
		return fmt.Errorf("BYE inside of a response, after %d bytes", len(passed))
	}
	return nil
}

// clientResets cuts the session off in the middle; the backend has to learn of it.
func (w *walker) clientResets() error {
	nc, in, done, err := w.open(func(nc net.Conn, in *bufio.Reader) error {
		go func() { _, _ = nc.Write(w.down) }()
		_, err := io.Copy(io.Discard, in)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, _ = io.CopyN(io.Discard, in, w.r.Int64N(int64(len(w.down))))
	_, _ = nc.Write(w.up[:w.r.IntN(len(w.up))])
	reset(nc)
	return <-done
}

// backendResets cuts the session off at the other end.
func (w *walker) backendResets() error {
	cut, br := w.r.IntN(len(w.down)), rand.New(rand.NewPCG(w.r.Uint64(), 1))
	nc, in, done, err := w.open(func(nc net.Conn, _ *bufio.Reader) error {
		_ = dribble(nc, br, w.down[:cut])
		reset(nc)
		return nil
	})
	if err != nil {
		return err
	}
	defer nc.Close()
	go func() { _, _ = nc.Write(w.up) }()
	err = w.prefix(in, byeLost)
	return errors.Join(err, <-done)
}

// backendGoes ends without a word: what it said arrives all the same.
func (w *walker) backendGoes() error {
	cut := w.r.IntN(len(w.down))
	nc, in, done, err := w.open(func(nc net.Conn, _ *bufio.Reader) error {
		_, err := nc.Write(w.down[:cut])
		return err
	})
	if err != nil {
		return err
	}
	defer nc.Close()
	want := w.down[:cut]
	if w.boundaries[cut] {
		want = append(bytes.Clone(want), byeLost...)
	}
	return errors.Join(expect(in, want), <-done)
}

// kicked is a session that an operator ends.
func (w *walker) kicked() error {
	br := rand.New(rand.NewPCG(w.r.Uint64(), 1))
	nc, in, done, err := w.open(func(nc net.Conn, in *bufio.Reader) error {
		go func() { _, _ = io.Copy(io.Discard, in) }()
		_ = dribble(nc, br, w.down)
		return nil
	})
	if err != nil {
		return err
	}
	defer nc.Close()
	go func() { _, _ = nc.Write(w.up) }()
	after, told := time.Duration(w.r.IntN(2000))*time.Microsecond, make(chan error, 1)
	go func() {
		<-time.After(after)
		_, err := w.st.server.Kick(context.Background(), func(i proxy.SessionInfo) bool { return i.User == w.user }, proxy.KickOptions{})
		told <- err
	}()
	return errors.Join(w.prefix(in, byeKicked, byeLost), <-told, <-done)
}
