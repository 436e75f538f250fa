package embedded

import (
	"errors"
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// schemaVersion is the user_version of a database with this schema. Once a release has written it, the schema changes only
// by steps from each version to the next, which leave tables and indexes with the text that they have here: see checkSchema.
const schemaVersion = 1

// schema makes an empty store.
const schema = `
	-- A delivery's id is its activity's first plus its place among the recipients, so that an activity's deliveries are
	-- a range and need no index. An activity has expires_next while any of its deliveries is pending, and done_at after.
	-- While any is pending or a dead letter, body is the seq of the activity whose row of bodies it shares with all that
	-- have the same bytes, and digest their SHA-256. Idempotency keys, and URIs of what is pending, are looked up in memory,
	-- and URIs, actors and keys by marks, so they need no index either. older is not 0 if it was accepted before an activity
	-- that the store got earlier, and so is not in its place by seq, as happens where stores are moved: it has indexes, and no
	-- marks. It is the seq of the first of all in a row that are so.
	CREATE TABLE activities (
		seq INTEGER PRIMARY KEY,
		id BLOB NOT NULL,
		uri TEXT NOT NULL,
		type TEXT NOT NULL,
		actor TEXT NOT NULL,
		key_id TEXT NOT NULL,
		pin TEXT NOT NULL,
		ordering_key TEXT NOT NULL,
		priority INTEGER NOT NULL,
		role INTEGER NOT NULL,
		object TEXT NOT NULL,
		final TEXT,
		metadata TEXT,
		trace BLOB,
		created INTEGER NOT NULL,
		first INTEGER NOT NULL,
		total INTEGER NOT NULL,
		delivered INTEGER NOT NULL DEFAULT 0,
		dead INTEGER NOT NULL DEFAULT 0,
		cancelled INTEGER NOT NULL DEFAULT 0,
		letters INTEGER NOT NULL DEFAULT 0,
		expires_next INTEGER,
		done_at INTEGER,
		idempotency BLOB,
		fingerprint BLOB,
		duplicates INTEGER NOT NULL DEFAULT 0,
		refused TEXT,
		note BLOB,
		body INTEGER,
		digest BLOB,
		older INTEGER NOT NULL DEFAULT 0
	) STRICT;
	CREATE UNIQUE INDEX activities_id ON activities (id);
	CREATE INDEX activities_recent ON activities (created, idempotency) WHERE idempotency IS NOT NULL;
	CREATE INDEX activities_expires ON activities (expires_next) WHERE expires_next IS NOT NULL;
	CREATE INDEX activities_done ON activities (done_at) WHERE done_at IS NOT NULL AND letters = 0;
	CREATE INDEX activities_letters ON activities (body, digest, expires_next) WHERE letters > 0;
	CREATE INDEX activities_older ON activities (created) WHERE older > 0;
	CREATE INDEX activities_older_uri ON activities (uri, created) WHERE older > 0;
	CREATE INDEX activities_older_actor ON activities (actor, created) WHERE older > 0;
	CREATE INDEX activities_older_key ON activities (key_id, created) WHERE older > 0;
	-- See marks.go.
	CREATE TABLE marks (mark INTEGER PRIMARY KEY) STRICT;
	CREATE TABLE bodies (activity INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;

	-- Only what is pending has a row. flags are those that last, see index.go.
	CREATE TABLE deliveries (
		id INTEGER PRIMARY KEY,
		activity INTEGER NOT NULL,
		lane INTEGER NOT NULL,
		inbox TEXT NOT NULL,
		headers TEXT,
		ids TEXT,
		attempts INTEGER NOT NULL DEFAULT 0,
		due INTEGER NOT NULL,
		expires INTEGER NOT NULL,
		flags INTEGER NOT NULL DEFAULT 0,
		history TEXT
	) STRICT;
	-- uri is a hash of the activity's.
	CREATE TABLE dead (
		id INTEGER PRIMARY KEY,
		activity INTEGER NOT NULL,
		host TEXT NOT NULL,
		inbox TEXT NOT NULL,
		headers TEXT,
		ids TEXT,
		reason TEXT NOT NULL,
		attempts INTEGER NOT NULL,
		history TEXT,
		died_at INTEGER NOT NULL,
		uri INTEGER NOT NULL
	) STRICT;
	-- The reason in the index of hosts lets a list by both skip quickly what it leaves out.
	CREATE INDEX dead_at ON dead (died_at, id);
	CREATE INDEX dead_host ON dead (host, died_at, id, reason);
	CREATE INDEX dead_reason ON dead (reason, died_at, id);
	CREATE INDEX dead_inbox ON dead (inbox, died_at, id);
	CREATE INDEX dead_uri ON dead (uri, died_at, id);

	-- A tombstone's seq is its place among the activities. activity is the ID of the Delete that left it.
	CREATE TABLE tombstones (
		seq INTEGER PRIMARY KEY,
		object TEXT NOT NULL,
		uri TEXT NOT NULL,
		activity BLOB NOT NULL,
		created INTEGER NOT NULL
	) STRICT;
	CREATE TABLE hosts (
		lane INTEGER PRIMARY KEY,
		host TEXT NOT NULL UNIQUE,
		record TEXT NOT NULL DEFAULT '{}',
		wait_until INTEGER NOT NULL DEFAULT 0,
		wait_since INTEGER NOT NULL DEFAULT 0,
		hastened INTEGER NOT NULL DEFAULT 0,
		state TEXT NOT NULL DEFAULT 'healthy',
		changed INTEGER NOT NULL DEFAULT 0
	) STRICT;

	-- The orders that hold: name is the action and the host. token is the name of the token that gave it.
	CREATE TABLE orders (
		name TEXT PRIMARY KEY,
		since INTEGER NOT NULL,
		until INTEGER NOT NULL,
		subdomains INTEGER NOT NULL,
		reason TEXT NOT NULL,
		token TEXT NOT NULL
	) STRICT, WITHOUT ROWID;

	-- The entries of the feed. The newest one always stays, so that no seq is used twice. entry is what is not in another column.
	CREATE TABLE feed (
		seq INTEGER PRIMARY KEY,
		at INTEGER NOT NULL,
		kind TEXT NOT NULL,
		host TEXT NOT NULL,
		entry TEXT NOT NULL
	) STRICT;
	CREATE INDEX feed_states ON feed (host, seq) WHERE kind = 'host_state';
	CREATE TABLE positions (reader TEXT PRIMARY KEY, cursor TEXT NOT NULL) STRICT, WITHOUT ROWID;
	CREATE TABLE keys (
		id TEXT PRIMARY KEY,
		algorithm TEXT NOT NULL,
		public_pem TEXT NOT NULL,
		fingerprint TEXT NOT NULL,
		sealed BLOB NOT NULL,
		created INTEGER NOT NULL,
		when_idle INTEGER NOT NULL
	) STRICT, WITHOUT ROWID;

	-- How many were delivered, dropped and died since the store was made, the name of its feed, the last activity whose
	-- marks are written, and the store's clock: how far it is behind the wall clock, the time as of when that was written, 0 if
	-- it never was, and the sum of both, by which damage is found.
	CREATE TABLE meta (
		one INTEGER PRIMARY KEY CHECK (one = 1),
		delivered INTEGER NOT NULL DEFAULT 0,
		dropped INTEGER NOT NULL DEFAULT 0,
		clock_lag INTEGER NOT NULL DEFAULT 0,
		clock_kept INTEGER NOT NULL DEFAULT 0,
		clock_sum INTEGER NOT NULL DEFAULT 0,
		feed INTEGER NOT NULL DEFAULT (random() & 0xffffffff),
		marked INTEGER NOT NULL DEFAULT 0
	) STRICT;
	INSERT INTO meta (one) VALUES (1);
	-- The counts of a minute, for charts. at is when it began, by the wall clock.
	CREATE TABLE minutes (at INTEGER PRIMARY KEY, numbers TEXT NOT NULL) STRICT;
	CREATE TABLE died (reason TEXT PRIMARY KEY, n INTEGER NOT NULL) STRICT, WITHOUT ROWID;
`

// makeSchema makes the tables of a new database, and refuses one that this program did not make. It changes nothing in that.
func makeSchema(c *sqlite.Conn) error {
	version, err := sqlitex.ResultInt(c.Prep("PRAGMA user_version"))
	if err != nil {
		return err
	}
	stored := map[string]bool{}
	if err := each(c, "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL", nil, func(row *sqlite.Stmt) error {
		stored[row.ColumnText(0)] = true
		return nil
	}); err != nil {
		return err
	}
	switch {
	case version == schemaVersion:
		return checkSchema(stored)
	case version != 0:
		return fmt.Errorf("the store has version %d, this program reads only version %d: use the program that wrote it", version, schemaVersion)
	case len(stored) > 0:
		return errors.New("this is another program's database: use another folder")
	}
	err = sqlitex.ExecuteScript(c, fmt.Sprintf("%s PRAGMA user_version = %d;", schema, schemaVersion), nil) // runs in a savepoint
	if err != nil {
		return fmt.Errorf("make tables: %w", err)
	}
	return nil
}

// checkSchema refuses a database in which a table or an index is missing or other than in schema, such as one that a build
// between two releases made. What a database has besides does no harm, such as the statistics that ANALYZE makes.
func checkSchema(stored map[string]bool) error {
	for statement := range strings.SplitSeq(schema, ";\n") {
		_, made, makes := strings.Cut(statement, "\tCREATE ")
		if !makes || stored["CREATE "+made] { // SQLite keeps the text
			continue
		}
		name, _, _ := strings.Cut(made, " (")
		return fmt.Errorf("%s is missing or not as this program makes it, though the store has version %d, as after a build that was not "+
			"released: use the program that wrote it, or another folder", name, schemaVersion)
	}
	return nil
}
