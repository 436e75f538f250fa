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
CREATE TABLE bodies (activity INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
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
CREATE TABLE died (reason TEXT PRIMARY KEY, n INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE feed (
		seq INTEGER PRIMARY KEY,
		at INTEGER NOT NULL,
		kind TEXT NOT NULL,
		host TEXT NOT NULL,
		entry TEXT NOT NULL
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
CREATE TABLE keys (
		id TEXT PRIMARY KEY,
		algorithm TEXT NOT NULL,
		public_pem TEXT NOT NULL,
		fingerprint TEXT NOT NULL,
		sealed BLOB NOT NULL,
		created INTEGER NOT NULL,
		when_idle INTEGER NOT NULL
	) STRICT, WITHOUT ROWID;
CREATE TABLE marks (mark INTEGER PRIMARY KEY) STRICT;
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
CREATE TABLE minutes (at INTEGER PRIMARY KEY, numbers TEXT NOT NULL) STRICT;
CREATE TABLE orders (
		name TEXT PRIMARY KEY,
		since INTEGER NOT NULL,
		until INTEGER NOT NULL,
		subdomains INTEGER NOT NULL,
		reason TEXT NOT NULL,
		token TEXT NOT NULL
	) STRICT, WITHOUT ROWID;
CREATE TABLE positions (reader TEXT PRIMARY KEY, cursor TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE tombstones (
		seq INTEGER PRIMARY KEY,
		object TEXT NOT NULL,
		uri TEXT NOT NULL,
		activity BLOB NOT NULL,
		created INTEGER NOT NULL
	) STRICT;
CREATE INDEX activities_done ON activities (done_at) WHERE done_at IS NOT NULL AND letters = 0;
CREATE INDEX activities_expires ON activities (expires_next) WHERE expires_next IS NOT NULL;
CREATE UNIQUE INDEX activities_id ON activities (id);
CREATE INDEX activities_letters ON activities (body, digest, expires_next) WHERE letters > 0;
CREATE INDEX activities_older ON activities (created) WHERE older > 0;
CREATE INDEX activities_older_actor ON activities (actor, created) WHERE older > 0;
CREATE INDEX activities_older_key ON activities (key_id, created) WHERE older > 0;
CREATE INDEX activities_older_uri ON activities (uri, created) WHERE older > 0;
CREATE INDEX activities_recent ON activities (created, idempotency) WHERE idempotency IS NOT NULL;
CREATE INDEX dead_at ON dead (died_at, id);
CREATE INDEX dead_host ON dead (host, died_at, id, reason);
CREATE INDEX dead_inbox ON dead (inbox, died_at, id);
CREATE INDEX dead_reason ON dead (reason, died_at, id);
CREATE INDEX dead_uri ON dead (uri, died_at, id);
CREATE INDEX feed_states ON feed (host, seq) WHERE kind = 'host_state';
PRAGMA user_version = 1;
INSERT INTO activities VALUES (1, X'018F0000000070008000000000000001', 'https://app.example/1', 'Create', 'https://app.example/alice', 'https://app.example/alice#key', 'SHA256:abc', 'thread', 1, 1, 'https://app.example/notes/1', '[403]', '{"status_id":42}', X'007472616365FF', 946684800000, 1, 4, 1, 1, 0, 1, 946944000000, NULL, X'0100000000000000000000000000000000000000000000000000000000000000', X'0100000000000000000000000000000000000000000000000000000000000000', 0, '[{"inbox":"https://blocked.example/inbox","reason":"host_blocked"}]', X'6E6F7465', 1, X'4D9B79732B32EE30279DAE213188C9B3490450D829D05B4C0E2CCDEF8B9BBDBB', 0);
INSERT INTO activities VALUES (2, X'018F0000000070008000000000000002', 'https://app.example/2', 'Create', 'https://app.example/alice', 'https://app.example/alice#key', 'SHA256:abc', 'thread', 1, 2, 'https://app.example/notes/1', '[403]', '{"status_id":42}', X'007472616365FF', 946684800000, 5, 1, 0, 0, 0, 0, 946944000000, NULL, X'0200000000000000000000000000000000000000000000000000000000000000', X'0100000000000000000000000000000000000000000000000000000000000000', 0, NULL, X'6E6F7465', 2, X'01ACC50A7155BC70C941BFB7C898FD41AB8F6034DD770B3CB5764A838A157C03', 0);
INSERT INTO bodies VALUES (1, X'626F6479206F662068747470733A2F2F6170702E6578616D706C652F31');
INSERT INTO bodies VALUES (2, X'626F6479206F662068747470733A2F2F6170702E6578616D706C652F32');
INSERT INTO dead VALUES (3, 1, 'dead.example', 'https://dead.example/inbox', '[{"name":"X-Host","value":"dead.example"}]', '["https://dead.example/users/bob"]', 'gone', 1, '[{"at":"2000-01-01T00:00:00Z","status":500,"outcome":"server_error","error":"Oops","duration":1000000000}]', 946684800000, 3690607104);
INSERT INTO deliveries VALUES (1, 1, 2, 'https://failing.example/inbox', '[{"name":"X-Host","value":"failing.example"}]', '["https://failing.example/users/bob"]', 1, 946688400000, 946944000000, 49, '[{"at":"2000-01-01T00:00:00Z","status":500,"outcome":"server_error","error":"Oops","duration":1000000000}]');
INSERT INTO deliveries VALUES (2, 1, 3, 'https://keyless.example/inbox', '[{"name":"X-Host","value":"keyless.example"}]', '["https://keyless.example/users/bob"]', 0, 946684800000, 946944000000, 50, '[{"at":"2000-01-01T00:00:00Z","status":500,"outcome":"server_error","error":"Oops","duration":1000000000}]');
INSERT INTO deliveries VALUES (5, 2, 2, 'https://failing.example/inbox', '[{"name":"X-Host","value":"failing.example"}]', '["https://failing.example/users/bob"]', 0, 946684800000, 946944000000, 32, NULL);
INSERT INTO died VALUES ('gone', 1);
INSERT INTO feed VALUES (1, 946684800000, 'action', '', '{"action":"key.put","key_id":"https://app.example/alice#key"}');
INSERT INTO feed VALUES (2, 946684800000, 'action', 'blocked.example', '{"order":{"action":"block","host":"blocked.example"},"action":"host.block"}');
INSERT INTO feed VALUES (3, 946684800000, 'host_state', 'blocked.example', '{"state":"blocked","order":{"action":"block","host":"blocked.example","since":"2000-01-01T00:00:00Z"}}');
INSERT INTO feed VALUES (4, 946684800000, 'host_state', 'failing.example', '{"state":"open"}');
INSERT INTO feed VALUES (5, 946684800000, 'dead', 'dead.example', '{"activity_id":"018f0000-0000-7000-8000-000000000001","uri":"https://app.example/1","metadata":{"status_id":42},"id":"018f0000-0000-7000-8000-000000000001.2","inbox":"https://dead.example/inbox","ids":["https://dead.example/users/bob"],"reason":"gone","attempts":1,"attempt":{"at":"2000-01-01T00:00:00Z","status":500,"outcome":"server_error","error":"Oops","duration":1000000000}}');
INSERT INTO hosts VALUES (1, 'blocked.example', '{}', 0, 0, 0, 'blocked', 946684800000);
INSERT INTO hosts VALUES (2, 'failing.example', '{"breaker":{"state":1,"failures":3,"trips":1,"window":1,"days":[10957],"failed":true,"opened_at":"2000-01-01T00:00:00Z"},"scheme":"cavage","last_error":{"at":"2000-01-01T00:00:00Z","outcome":"unreachable","duration":1000000000}}', 946688400000, 946684800000, 0, 'open', 946684800000);
INSERT INTO hosts VALUES (3, 'keyless.example', '{}', 0, 0, 0, 'healthy', 0);
INSERT INTO hosts VALUES (4, 'dead.example', '{}', 0, 0, 0, 'healthy', 0);
INSERT INTO hosts VALUES (5, 'fine.example', '{}', 0, 0, 0, 'healthy', 0);
INSERT INTO keys VALUES ('https://app.example/alice#key', 'rsa', 'PEM', 'SHA256:abc', X'7365616C6564', 946684800000, 1);
INSERT INTO marks VALUES (120123916289);
INSERT INTO marks VALUES (230399180801);
INSERT INTO meta VALUES (1, 1, 0, 0, 946684800000, 946684800000, 7, 1);
INSERT INTO minutes VALUES (946684800000, '{"deliveries":6,"pending":4}');
INSERT INTO orders VALUES ('block blocked.example', 946684800000, 9223372036854775807, 0, '', '');
INSERT INTO positions VALUES ('webhook', '7-3');
INSERT INTO tombstones VALUES (2, 'https://app.example/notes/1', 'https://app.example/2', X'018F0000000070008000000000000002', 946684800000);
