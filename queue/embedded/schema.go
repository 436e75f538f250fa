package embedded

import (
	"fmt"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// migrations bring a database from each version (its user_version) to the next. Never change one that was released.
var migrations = []string{
	// A delivery's id is its activity's first plus its place among the recipients, so that an activity's deliveries are
	// a range and need no index. Rows of deliveries are only those pending. An activity has expires_next while any of
	// its deliveries is pending, and done_at after; its body stays while any delivery is pending or a dead letter.
	`CREATE TABLE activities (
		seq INTEGER PRIMARY KEY,
		id BLOB NOT NULL,
		uri TEXT NOT NULL,
		type TEXT NOT NULL,
		key_id TEXT NOT NULL,
		ordering_key TEXT NOT NULL,
		priority INTEGER NOT NULL,
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
		note BLOB
	) STRICT;
	CREATE UNIQUE INDEX activities_id ON activities (id);
	CREATE UNIQUE INDEX activities_idempotency ON activities (idempotency) WHERE idempotency IS NOT NULL;
	CREATE INDEX activities_pending ON activities (uri) WHERE expires_next IS NOT NULL;
	CREATE INDEX activities_expires ON activities (expires_next) WHERE expires_next IS NOT NULL;
	CREATE INDEX activities_done ON activities (done_at) WHERE done_at IS NOT NULL AND letters = 0;
	CREATE TABLE bodies (activity INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
	CREATE TABLE deliveries (
		id INTEGER PRIMARY KEY,
		activity INTEGER NOT NULL,
		lane INTEGER NOT NULL,
		inbox TEXT NOT NULL,
		headers TEXT,
		attempts INTEGER NOT NULL DEFAULT 0,
		due INTEGER NOT NULL,
		expires INTEGER NOT NULL,
		flags INTEGER NOT NULL DEFAULT 0,
		last TEXT
	) STRICT;
	CREATE TABLE dead (
		id INTEGER PRIMARY KEY,
		activity INTEGER NOT NULL,
		host TEXT NOT NULL,
		inbox TEXT NOT NULL,
		headers TEXT,
		reason TEXT NOT NULL,
		attempts INTEGER NOT NULL,
		last TEXT,
		died_at INTEGER NOT NULL
	) STRICT;
	CREATE INDEX dead_at ON dead (died_at, id);
	CREATE INDEX dead_host ON dead (host, died_at, id);
	CREATE INDEX dead_reason ON dead (reason, died_at, id);
	CREATE TABLE hosts (
		lane INTEGER PRIMARY KEY,
		host TEXT NOT NULL UNIQUE,
		record TEXT NOT NULL DEFAULT '{}',
		wait_until INTEGER NOT NULL DEFAULT 0,
		paused INTEGER NOT NULL DEFAULT 0,
		blocked INTEGER NOT NULL DEFAULT 0
	) STRICT;
	CREATE TABLE keys (
		id TEXT PRIMARY KEY,
		algorithm TEXT NOT NULL,
		public_pem TEXT NOT NULL,
		fingerprint TEXT NOT NULL,
		sealed BLOB NOT NULL,
		created INTEGER NOT NULL
	) STRICT, WITHOUT ROWID;
	CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), delivered INTEGER NOT NULL) STRICT;
	INSERT INTO meta VALUES (1, 0);`,

	// What operators do to hosts and dead letters, and how hosts are given up. The reason in the index of hosts lets a list
	// by both skip quickly what it leaves out.
	`ALTER TABLE activities ADD COLUMN role INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE activities ADD COLUMN superseded INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE hosts ADD COLUMN wait_since INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE meta ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;
	CREATE TABLE died (reason TEXT PRIMARY KEY, n INTEGER NOT NULL) STRICT, WITHOUT ROWID;
	INSERT INTO died SELECT reason, count(*) FROM dead GROUP BY reason;
	DROP INDEX dead_host;
	CREATE INDEX dead_host ON dead (host, died_at, id, reason);`,

	// How many probes Seen hastened since the host's last success.
	`ALTER TABLE hosts ADD COLUMN hastened INTEGER NOT NULL DEFAULT 0;`,

	// What has headers of its own is marked (flag 32), as all else that is needed of what is taken is in memory. So is what
	// is looked for at intake: idempotency keys, which were in random order, and URIs of what is pending.
	`UPDATE deliveries SET flags = flags | 32 WHERE headers IS NOT NULL;
	DROP INDEX activities_pending;
	DROP INDEX activities_idempotency;
	CREATE INDEX activities_recent ON activities (created, idempotency) WHERE idempotency IS NOT NULL;`,
}

// migrate brings the database to the newest version, each step in a transaction of its own.
func migrate(c *sqlite.Conn) error {
	version, err := sqlitex.ResultInt(c.Prep("PRAGMA user_version"))
	if err != nil {
		return err
	}
	if version > len(migrations) {
		return fmt.Errorf("the store has version %d, this program knows only up to %d: use a newer program", version, len(migrations))
	}
	for ; version < len(migrations); version++ {
		step := fmt.Sprintf("%s; PRAGMA user_version = %d;", migrations[version], version+1)
		if err := sqlitex.ExecuteScript(c, step, nil); err != nil { // runs in a savepoint
			return fmt.Errorf("migrate to version %d: %w", version+1, err)
		}
	}
	return nil
}
