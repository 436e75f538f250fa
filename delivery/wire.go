package delivery

import (
	"errors"
	"io"
	"syscall"
)

// Read reads from the connection, and reports in the end why an earlier Write failed. It closes the connection of a
// peer that sends too much.
func (c *trackedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.read.Add(int64(n))
	}
	if !c.budget.spend(n) {
		_ = c.Close()
		return 0, errFlood
	}
	if failed := c.unwritten.Load(); failed != nil && errors.Is(err, io.EOF) {
		err = *failed
	}
	return n, err
}

// Write writes to the connection. It says nothing of the host having closed it, and leaves that to Read: an answer
// that the host sent before, say that the activity is too large, is still there to be read, and net/http would throw
// it away. No reader waits in vain for more, since reading from a closed connection comes to an end.
//
// It closes the connection of a peer that makes us write too often.
func (c *trackedConn) Write(p []byte) (int, error) {
	if !c.budget.spend(0) {
		_ = c.Close()
		return 0, errFlood
	}
	n, err := c.Conn.Write(p)
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		c.unwritten.CompareAndSwap(nil, &err)
		return len(p), nil
	}
	return n, err
}
