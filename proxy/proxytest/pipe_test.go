package proxytest_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"imapgate/proxy/proxytest"
)

func TestPipeKeepsWhatWasWrittenBeforeClose(t *testing.T) {
	a, b := proxytest.Pipe(proxytest.PipeOptions{})
	if _, err := a.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(b)
	if err != nil || string(got) != "last words" {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := b.Write([]byte("too late")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write to a closed connection: %v", err)
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after Close: %v", err)
	}
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
}

func TestPipeHalfCloses(t *testing.T) {
	a, b := proxytest.Pipe(proxytest.PipeOptions{})
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d, %v", n, err)
	}
	if _, err := b.Write([]byte("still there")); err != nil {
		t.Error(err)
	}
	buf := make([]byte, 64)
	if n, err := a.Read(buf); err != nil || string(buf[:n]) != "still there" {
		t.Errorf("read %q, %v", buf[:n], err)
	}
}

func TestPipeAbortIsAReset(t *testing.T) {
	a, b := proxytest.Pipe(proxytest.PipeOptions{})
	if _, err := a.Write([]byte("lost")); err != nil {
		t.Fatal(err)
	}
	a.Abort()
	if n, err := b.Read(make([]byte, 64)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %d, %v", n, err)
	}
	if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("write: %v", err)
	}
}

func TestPipeDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := proxytest.Pipe(proxytest.PipeOptions{Buffer: 4})
		defer func() { _ = a.Close() }()
		began := time.Now()
		if err := b.SetReadDeadline(began.Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		_, err := b.Read(make([]byte, 1))
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("read: %v after %v", err, time.Since(began))
		}
		if err := b.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}

		began = time.Now()
		if err := a.SetWriteDeadline(began.Add(2 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := a.Write([]byte("123456"))
		if n != 4 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 2*time.Second {
			t.Errorf("wrote %d, %v after %v", n, err, time.Since(began))
		}

		// A deadline in the past wakes whoever is blocked already.
		buf := make([]byte, 8)
		if n, err := b.Read(buf); n != 4 || err != nil {
			t.Errorf("read %d, %v", n, err)
		}
		failed := make(chan error)
		go func() {
			_, err := b.Read(buf)
			failed <- err
		}()
		synctest.Wait()
		if err := b.SetReadDeadline(time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("blocked read: %v", err)
		}
	})
}

func TestPipeBufferBlocksTheWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := proxytest.Pipe(proxytest.PipeOptions{Buffer: 10})
		sent := bytes.Repeat([]byte("0123456789abcdef"), 1000)
		done := make(chan error)
		go func() {
			_, err := a.Write(sent)
			_ = a.Close()
			done <- err
		}()
		synctest.Wait()
		if n := b.Buffered(); n != 10 {
			t.Errorf("%d bytes buffered", n)
		}
		go func() {
			got, err := io.ReadAll(b)
			if !bytes.Equal(got, sent) {
				t.Errorf("%d of %d bytes arrived: %v", len(got), len(sent), err)
			}
			done <- err
		}()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

func TestPipeCarriesTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := proxytest.NewCA(t)
		a, b := proxytest.Pipe(proxytest.PipeOptions{})
		server := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{ca.Issue(t, proxytest.CertOptions{})}})
		done := make(chan []byte)
		go func() {
			got, err := io.ReadAll(server)
			if err != nil {
				t.Error(err)
			}
			_ = server.Close()
			done <- got
		}()
		client := tls.Client(a, &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"})
		if _, err := client.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := client.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got := <-done; string(got) != "hello" {
			t.Errorf("got %q", got)
		}
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("read: %v", err)
		}
	})
}

func TestListenerTellsBothAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at, from := netip.MustParseAddrPort("198.51.100.1:993"), netip.MustParseAddrPort("[2001:db8::1]:4711")
		l := proxytest.NewListener(at)
		if _, err := l.Connect(from); err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if c.LocalAddr().String() != at.String() || c.RemoteAddr().String() != from.String() {
			t.Errorf("accepted %s from %s", c.LocalAddr(), c.RemoteAddr())
		}
		failed := make(chan error)
		go func() {
			_, err := l.Accept()
			failed <- err
		}()
		synctest.Wait()
		_ = l.Close()
		if err := <-failed; !errors.Is(err, net.ErrClosed) {
			t.Errorf("blocked accept: %v", err)
		}
		if _, err := l.Connect(from); !errors.Is(err, net.ErrClosed) {
			t.Errorf("connect to a closed listener: %v", err)
		}
	})
}
