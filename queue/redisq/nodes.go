package redisq

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/queue"
)

var errDeaf = errors.New("what nodes tell each other is not heard")

// Nodes implements queue.Fleet.
func (s *channels) Nodes(context.Context) (f queue.FleetStatus, err error) {
	defer wrap(&err, "nodes")
	now := time.Now()
	if s.company.deaf(now) {
		return f, errDeaf
	}
	said := beat{now, s.introduce()}
	own := said.node()
	own.Self = true
	f = queue.FleetStatus{Nodes: append(s.company.there(now), own), Partitions: len(s.parts)}
	slices.SortFunc(f.Nodes, func(a, b queue.Node) int { return strings.Compare(a.Name, b.Name) })
	return f, nil
}
