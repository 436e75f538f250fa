// Package script links the Lua scripts that redisq has Redis run. The files in lua/lib hold what several scripts share; each
// other file is a script of its name. At its head a script says
//
//	#!lua flags=no-writes  that it only reads; with allow-oom, that it takes out or moves things and must also run when
//	                       Redis has no room left, or a full store could never be emptied; without flags, that it stores
//	-- USES lane(read)     what it needs itself of which file of lua/lib: a test compares it with what is linked
//	-- KEYS.claim          that its first own key, or the next one, is a claim, which KEYS.claim stands for in the script
//	-- KEYS.activity×2     that the next two are of an activity: KEYS.activity is the number of the first
//	-- ARGV.hosts…         that all other arguments are hosts: ARGV.hosts is the number of the first
//
// KEYS.stats, where a script does not declare it, is the key of that kind (see rediskeys) of the partition. Names in capitals,
// such as PROBING or queue's TAKE_SHARES, are constants. All of these are put in place before a script is sent.
package script

import (
	"path"
	"strings"
	"sync"

	"github.com/redis/rueidis"
)

// Name is the name of a script. It may be sent again when a connection broke before its answer: each is written so that
// running twice does as running once.
type Name string

// The scripts.
const (
	Post    Name = "post"
	Enqueue Name = "enqueue"
	Claim   Name = "claim"
	Stage   Name = "stage"
	Commit  Name = "commit"
	Staged  Name = "staged"
	Release Name = "release"
	Unstage Name = "unstage"
	Entomb  Name = "entomb"

	Due       Name = "due"
	Settle    Name = "settle"
	Supersede Name = "supersede"
	Choose    Name = "choose"
	Bury      Name = "bury"

	Act    Name = "act"
	Reset  Name = "reset"
	Cover  Name = "cover"
	Review Name = "review"
	Names  Name = "names"
	Hosts  Name = "hosts"
	Glance Name = "glance"

	HostDeliveries Name = "hostdeliveries"

	ForgetHosts Name = "forgethosts"

	Find   Name = "find"
	Remove Name = "remove"
	Forget Name = "forget"

	Ended    Name = "ended"
	Report   Name = "report"
	ReadFeed Name = "readfeed"

	FeedAction Name = "feedaction"

	Revive  Name = "revive"
	Discard Name = "discard"

	PutKey     Name = "putkey"
	DropKey    Name = "dropkey"
	RetireKey  Name = "retirekey"
	ResealKeys Name = "resealkeys"
	Unpark     Name = "unpark"

	Export          Name = "export"
	ImportActivity  Name = "importactivity"
	ImportHost      Name = "importhost"
	ImportReceipt   Name = "importreceipt"
	ImportTombstone Name = "importtombstone"
	Mark            Name = "mark"

	AddMinute Name = "addminute"

	TryCommands Name = "trycommands"
	Trial       Name = "trial"
	Sweep       Name = "sweep"
	Crumble     Name = "crumble"
	Publish     Name = "publish"
)

// Script is a script as it is sent.
type Script struct {
	*rueidis.Lua
	Text   string
	Joint  func() *rueidis.Lua // does so in several partitions: see lua/joint.lua. It is made when it is first wanted
	Places bool                // whether it may make a lane due
	Keys   []string            // kinds of the keys that come before those of its own: a partition has one of each
}

// All returns all scripts. They are made once.
var All = sync.OnceValue(func() map[Name]Script {
	all := map[Name]Script{}
	blocks := sharedBlocks()
	for name, file := range paths() {
		if path.Dir(file) != "lua/lib" {
			lua, keys := link(name, blocks)
			text := lua.one()
			all[Name(name)] = Script{
				Lua: rueidis.NewLuaScriptRetryable(text), Text: text,
				Joint:  sync.OnceValue(func() *rueidis.Lua { return rueidis.NewLuaScriptRetryable(lua.joint()) }),
				Places: strings.Contains(text, "'PUBLISH'"), Keys: keys,
			}
		}
	}
	return all
})
