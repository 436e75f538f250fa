package delivery

import (
	"net/http"
	"testing"

	"golang.org/x/net/http2"

	"github.com/postrider/postrider/internal/testinbox"
)

// TestLargeActivitiesFitTheBudget checks that the largest activity reaches an inbox that allows a kilobyte of it at a time.
func TestLargeActivitiesFitTheBudget(t *testing.T) {
	script := testinbox.Script{
		Name: "window of a kilobyte", Layer: testinbox.HTTP2, Play: acceptSlowly,
		Settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1 << 10}},
	}
	hosts, c := startHostile(t, 1, script, ClientOptions{AttemptTimeout: patience})
	if got, _ := postTo(t.Context(), t, c, hosts.Inbox(0, "/inbox"), 1<<20); got.Status != http.StatusAccepted {
		t.Errorf("got %+v", got)
	}
}

// acceptSlowly allows the client to send as much as was read, and accepts the activity once it has all of it.
func acceptSlowly(p *testinbox.Peer) {
	for {
		frame, err := p.Framer.ReadFrame()
		if err != nil {
			return
		}
		data, ok := frame.(*http2.DataFrame)
		if !ok {
			continue
		}
		if data.StreamEnded() {
			break
		}
		_ = p.Framer.WriteWindowUpdate(0, data.Length)
		_ = p.Framer.WriteWindowUpdate(p.Stream, data.Length)
	}
	p.Head("202")
	_ = p.Framer.WriteData(p.Stream, true, nil)
	p.AnswerPings()
}
