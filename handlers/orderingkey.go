package handlers

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/postrider/postrider/queue"
)

// changes are the types of activities that change their object, which others may change too.
var changes = map[string]bool{
	"Create": true, "Update": true, "Delete": true, "Add": true, "Remove": true, "Move": true,
}

// answers are the types of activities that undo another activity or answer it.
var answers = map[string]bool{
	"Undo": true, "Accept": true, "TentativeAccept": true, "Reject": true, "TentativeReject": true,
}

// orderingKey returns the default ordering key, which is the same for activities that must not overtake each other:
//
//   - of a change, the ID of the object;
//   - of an Undo, an answer or an Announce that carries an activity, the key of that activity;
//   - of an Undo or an answer that names an activity by its ID only, that ID;
//   - of everything else (Follow, Like, Announce of an ID, …), the actor and the object together;
//   - without an object, the activity's own ID.
//
// If an activity is named by its ID only, refers is that ID too: the store may know the key of that activity.
func (f *facts) orderingKey() (key, refers string) {
	key, refers = f.about("")
	if refers != key { // too long, or with a line feed in it: no activity has such an ID
		refers = ""
	}
	return cmp.Or(key, f.id), refers
}

// about is orderingKey without the activity's own ID. An activity that names no actor is by the one given.
func (f *facts) about(actor string) (key, refers string) {
	actor = cmp.Or(f.actor, actor)
	switch {
	case f.carriesActivity():
		key, refers = f.inner.about(f.undoer(actor))
		if key == "" {
			key, refers = plainKey(f.inner.id), f.inner.id
		}
	case answers[f.kind]:
		key, refers = plainKey(f.object), f.object
	case changes[f.kind]:
		key = plainKey(f.object)
	case actor != "" && f.object != "":
		key = pairKey(actor, f.object)
	}
	return key, refers
}

// undoer returns the actor of the activity inside if it names none. Only an Undo is by the same actor as what it
// undoes.
func (f *facts) undoer(actor string) string {
	if f.kind == "Undo" {
		return actor
	}
	return ""
}

// carriesActivity reports whether the order of the activity is that of another one, which it carries. An Announce may
// carry other things than activities, and these have no actor and object.
func (f *facts) carriesActivity() bool {
	if f.inner == nil || f.inner.object == "" && f.inner.inner == nil {
		return false
	}
	return answers[f.kind] || f.kind == "Announce" && f.inner.actor != ""
}

// effect returns what the activity does to its one object, and what identifies this object: see queue.Activity.Object.
func (f *facts) effect() (role queue.Role, object string) {
	switch {
	case f.several:
		return queue.Other, ""
	case f.kind == "Announce" && f.carriesActivity():
		return f.announced()
	case f.kind == "Undo":
		return f.undone()
	case answers[f.kind] || f.object == "":
		return queue.Other, ""
	case f.kind == "Create":
		role = queue.Makes
	case f.kind == "Delete":
		role = queue.Deletes
	}
	return role, plainKey(f.object)
}

// announced is the effect of an Announce of an activity. A group speaks for itself: what it announces as deleted may
// still be what its author, who is on this server too, sends to others.
func (f *facts) announced() (role queue.Role, object string) {
	role, object = f.inner.effect()
	if object == "" || f.actor == "" {
		return queue.Other, ""
	}
	return role, pairKey(f.actor, object)
}

// undone is the effect of an Undo. An object that it names by its ID only may be a Delete.
func (f *facts) undone() (role queue.Role, object string) {
	if o := f.inner; o != nil && o.kind != "" {
		switch {
		case o.kind != "Delete" || o.several:
			return queue.Other, ""
		case o.object != "":
			return queue.Restores, plainKey(o.object)
		}
	}
	if _, refers := f.orderingKey(); refers != "" {
		return queue.Restores, ""
	}
	return queue.Other, ""
}

// plainKey is the ordering key for one ID: the ID.
func plainKey(id string) string {
	if len(id) > maxText || strings.Contains(id, "\n") {
		return hashedKey(id)
	}
	return id
}

// pairKey is the ordering key for an actor and an object: both, with a line feed between them.
func pairKey(actor, object string) string {
	key := actor + "\n" + object
	if len(key) > maxText || strings.Count(key, "\n") > 1 {
		return hashedKey(actor, object)
	}
	return key
}

// hashedKey stands for IDs from which no key can be made as they are. It begins with a line feed, as no other key does.
func hashedKey(ids ...string) string {
	return fmt.Sprintf("\nsha256:%x", sha256.Sum256(fmt.Appendf(nil, "%q", ids)))
}
