//go:build linux

package load

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// client is one connection, used by one goroutine.
type client struct {
	raw     *net.TCPConn
	tls     *tls.Conn
	in      *bufio.Reader
	timeout time.Duration
	tags    int
	out     []byte
}

func (c *client) close() { _ = c.raw.Close() }

// send sends a command, and returns its tag.
func (c *client) send(command string) (tag string, err error) {
	c.tags++
	tag = "a" + strconv.Itoa(c.tags)
	c.out = append(append(append(append(c.out[:0], tag...), ' '), command...), "\r\n"...)
	_, err = c.tls.Write(c.out)
	return tag, err
}

// do sends a command and reads up to its tagged response, which has to be OK.
func (c *client) do(command string) error {
	c.patience()
	tag, err := c.send(command)
	if err == nil {
		err = c.await(tag)
	}
	if err != nil {
		return fmt.Errorf("%.8s: %w", command, err)
	}
	return nil
}

// await reads up to a tagged response.
func (c *client) await(tag string) error {
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if rest, ok := bytes.CutPrefix(line, []byte(tag+" ")); ok {
			if !bytes.HasPrefix(rest, []byte("OK")) {
				return fmt.Errorf("got %q", line)
			}
			return nil
		}
		if open := bytes.LastIndexByte(line, '{'); open > 0 && bytes.HasSuffix(line, []byte("}\r\n")) {
			if n, err := strconv.ParseInt(string(line[open+1:len(line)-3]), 10, 63); err == nil {
				if _, err := io.CopyN(io.Discard, c.in, n); err != nil {
					return err
				}
			}
		}
	}
}

// idle begins IDLE, which has no time limit.
func (c *client) idle() error {
	c.patience()
	if _, err := c.send("IDLE"); err != nil {
		return err
	}
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("IDLE: %w", err)
	}
	if line[0] != '+' {
		return fmt.Errorf("IDLE: got %q", line)
	}
	c.forever()
	return nil
}

// done ends IDLE.
func (c *client) done() error {
	c.patience()
	if _, err := io.WriteString(c.tls, "DONE\r\n"); err != nil {
		return err
	}
	return c.await("a" + strconv.Itoa(c.tags))
}

// upload sends a mail of some size, in pieces, each of which is told of.
func (c *client) upload(size int64, piece []byte, sent func(n int)) error {
	tag, err := c.send(fmt.Sprintf("APPEND INBOX {%d+}", size))
	for left := size; left > 0 && err == nil; {
		c.patience()
		var n int
		n, err = c.tls.Write(piece[:min(left, int64(len(piece)))])
		left -= int64(n)
		sent(n)
	}
	if err == nil {
		_, err = io.WriteString(c.tls, "\r\n")
	}
	if err == nil {
		err = c.await(tag)
	}
	if err != nil {
		return fmt.Errorf("APPEND: %w", err)
	}
	return nil
}
