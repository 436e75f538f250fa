-- The outbox of an app: its transactions insert rows here, and postrider relay hands them over to a node.
-- This needs PostgreSQL 13 or later, and may be run again.
BEGIN;
SELECT pg_advisory_xact_lock(hashtext('postrider_outbox'));

CREATE TABLE IF NOT EXISTS postrider_outbox (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- The body of POST /v1/activities.
  call         text NOT NULL CHECK (octet_length(call) <= 60000000 AND json_typeof(call::json) = 'object'),
  -- Becomes the call's ordering_key. Rows with the same one are handed over in the order of their IDs, and so are those without.
  ordering_key text,
  created_at   timestamptz NOT NULL DEFAULT now(),
  -- When and why a node refused the call for good; the reason is a problem document of the API.
  refused_at   timestamptz,
  reason       json,
  slot         smallint NOT NULL GENERATED ALWAYS AS (coalesce(hashtext(ordering_key) & 15, 0)) STORED
);
CREATE INDEX IF NOT EXISTS postrider_outbox_waiting ON postrider_outbox (slot, id) WHERE refused_at IS NULL;
CREATE INDEX IF NOT EXISTS postrider_outbox_refused ON postrider_outbox (refused_at) WHERE refused_at IS NOT NULL;

-- A relay locks a slot to work on its rows.
CREATE TABLE IF NOT EXISTS postrider_outbox_slots (slot smallint PRIMARY KEY);
INSERT INTO postrider_outbox_slots SELECT generate_series(0, 15) ON CONFLICT DO NOTHING;

-- It only makes relays faster to notice rows: without it they poll.
CREATE OR REPLACE FUNCTION postrider_outbox_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NOTIFY postrider_outbox;
  RETURN NULL;
END
$$;
DROP TRIGGER IF EXISTS postrider_outbox_notify ON postrider_outbox;
CREATE TRIGGER postrider_outbox_notify AFTER INSERT ON postrider_outbox
  FOR EACH STATEMENT EXECUTE FUNCTION postrider_outbox_notify();
COMMIT;
