package queue

import (
	"context"
	"time"
)

// Action is what somebody did through the API: "host." and a HostAction, or one of these.
type Action string

// The actions on other things than a single host. Those on many hosts, letters or activities count them.
const (
	ActionResetHosts       Action = "hosts.reset"
	ActionRetryDead        Action = "dead_letters.retry"
	ActionDeleteDead       Action = "dead_letters.delete"
	ActionCancel           Action = "activity.cancel"
	ActionCancelActivities Action = "activities.cancel" // Event.Count is how many deliveries were cancelled
	ActionPutKey           Action = "key.put"
	ActionRetireKey        Action = "key.retire"
	ActionDeleteKey        Action = "key.delete"
	ActionResealKeys       Action = "keys.reseal"
)

// Actions lists all actions.
var Actions = func() (all []Action) {
	for _, a := range HostActions {
		all = append(all, a.OnHost())
	}
	return append(all, ActionResetHosts, ActionRetryDead, ActionDeleteDead, ActionCancel, ActionCancelActivities, ActionPutKey,
		ActionRetireKey, ActionDeleteKey, ActionResealKeys)
}()

// OnHost returns the action of somebody who does this to a host.
func (a HostAction) OnHost() Action { return "host." + Action(a) }

// ActionFilter is what a call chose by. Empty fields chose nothing.
type ActionFilter struct {
	State  HostState `json:"state,omitempty"`
	Host   string    `json:"host,omitempty"`
	Reason Reason    `json:"reason,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	Inbox  string    `json:"inbox,omitempty"`
	KeyID  string    `json:"key_id,omitempty"`
	URI    string    `json:"uri,omitempty"`
	IDs    []string  `json:"ids,omitempty"` // the first of those that were named
}

// HostActed is the entry about an action on a host.
func HostActed(host string, action HostAction, o Order) Event {
	e := Event{Kind: EventAction, Action: action.OnHost(), Host: host, By: o.By}
	if action != Pause && action != Block {
		return e
	}
	e.Order = &HostOrder{Action: action, Host: host, Reason: o.Reason, By: o.By, Subdomains: o.Subdomains}
	if o.For > 0 {
		e.Order.Until = time.Now().Add(o.For).UTC().Round(time.Second)
	}
	return e
}

// KeyActed is the entry about an action on a key.
func KeyActed(ctx context.Context, action Action, id string) Event {
	return Event{Kind: EventAction, Action: action, KeyID: id, By: Caller(ctx)}
}

// ActivityActed is the entry about an action on an activity.
func ActivityActed(ctx context.Context, action Action, id, uri string) Event {
	return Event{Kind: EventAction, Action: action, ActivityID: id, URI: uri, By: Caller(ctx)}
}

type callerKey struct{}

// WithCaller returns a context for calls that a token asks for, by its name. Entries of EventAction name it.
func WithCaller(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, callerKey{}, name)
}

// Caller returns the name of the token that asks for a call, "" if there is none.
func Caller(ctx context.Context) string {
	name, _ := ctx.Value(callerKey{}).(string)
	return name
}
