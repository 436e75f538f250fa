package redisq

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue"
)

// passing are how the answers begin by which a Redis says that it can't do something yet.
var passing = []string{
	"LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS", "OOM", "ERR max number of clients",
}

// Temporary reports whether Open may succeed later where it returned this error: Redis is away, loads what it holds, or
// has no room. It may not where Redis refuses us, where what is there is not our store, or for settings that are wrong.
func Temporary(err error) bool {
	if answer, ok := errors.AsType[*rueidis.RedisError](err); ok {
		return slices.ContainsFunc(passing, func(prefix string) bool { return strings.HasPrefix(answer.Error(), prefix) })
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return false
	}
	if broken, ok := errors.AsType[*net.OpError](err); ok {
		return !strings.HasSuffix(broken.Op, " error") // which is a TLS alert, ours or theirs
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return slices.ContainsFunc([]error{
		context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, rueidis.ErrClosing, rueidis.ErrNoAddr, errSlow, queue.ErrFull,
	}, func(away error) bool { return errors.Is(err, away) })
}
