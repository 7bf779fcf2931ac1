-- Times are UTC without a zone. Missing text is the empty string.
-- Holds a row for each session of a site; every append updates it. Most queries of a dashboard read this table only.
CREATE TABLE IF NOT EXISTS sessions (
    session_no BIGINT NOT NULL,
    session_key UUID NOT NULL,       -- of site_uuid and session_id
    site_uuid VARCHAR NOT NULL,
    session_id VARCHAR NOT NULL,
    first_ts TIMESTAMP NOT NULL,
    last_ts TIMESTAMP NOT NULL,
    pageviews BIGINT NOT NULL
    , @entry VARCHAR NOT NULL        -- of the first hit
);

-- Holds the hits. They arrive nearly in the order of time, so a range of days reads few row groups.
CREATE TABLE IF NOT EXISTS hits (
    site_uuid VARCHAR NOT NULL,
    ts TIMESTAMP NOT NULL,
    session_no BIGINT NOT NULL,
    event_key UUID,                  -- the event_id, or a hash of one that is no UUID
    event_name VARCHAR NOT NULL,     -- an event_id that is no UUID
    version VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    received_at TIMESTAMP,
    inserted_at TIMESTAMP NOT NULL,
    @text VARCHAR NOT NULL,
    meta VARCHAR NOT NULL,           -- other fields of payload.meta: JSON without the outer braces
    rest VARCHAR NOT NULL            -- other fields of the payload, likewise
);

-- Holds rows stored as they came: test events, automations, events that are no page hits.
CREATE TABLE IF NOT EXISTS whole (
    name VARCHAR NOT NULL,
    site_uuid VARCHAR NOT NULL,
    ts TIMESTAMP NOT NULL,
    event VARCHAR NOT NULL,
    inserted_at TIMESTAMP NOT NULL
);

-- Holds rows that break a rule of their data source.
CREATE TABLE IF NOT EXISTS quarantine (
    name VARCHAR NOT NULL,
    row_text VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    inserted_at TIMESTAMP NOT NULL
);

-- Holds the position in the journal behind the last frame whose rows are in the tables.
CREATE TABLE IF NOT EXISTS journal (
    position BIGINT NOT NULL
);
INSERT INTO journal SELECT 0 WHERE NOT EXISTS (FROM journal);
