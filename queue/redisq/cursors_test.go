package redisq

import (
	"testing"

	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue/queuetest"
)

func FuzzCursors(f *testing.F) {
	queuetest.FuzzCursors(f, openStore(f, Options{URL: testredis.Start(f).URL(), Partitions: 4}))
}
