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

-- The bits of member_status among the session's hits; null in rows of earlier versions until they are known.
ALTER TABLE sessions ADD COLUMN IF NOT EXISTS statuses UTINYINT;
-- Null if the session's hits differ, or while statuses is null.
ALTER TABLE sessions ADD COLUMN IF NOT EXISTS @fact VARCHAR;

CREATE OR REPLACE MACRO status_bit(member_status) AS (CASE member_status
    WHEN '@status' THEN @bit
    ELSE @other
END)::UTINYINT;

-- The number of a row in quarantine is derived from the row, so that it stays the same after a compaction.
CREATE OR REPLACE MACRO quarantine_id(name, row_text, reason, inserted_at) AS
    left(md5(concat_ws(chr(31), name, row_text, reason, inserted_at::VARCHAR)), 12);

-- Bits of member_status of hits of posts; those of other pages are the next 8 bits.
CREATE OR REPLACE MACRO kind_bit(member_status, post_type) AS
    status_bit(member_status)::USMALLINT << if(post_type = 'post', 0, 8)::USMALLINT;

-- Hold the sessions of busy sites by the day (UTC) on which they began, and by page.
CREATE TABLE IF NOT EXISTS settled_days (
    site_uuid VARCHAR NOT NULL,
    day DATE NOT NULL
);
CREATE TABLE IF NOT EXISTS page_days (
    site_uuid VARCHAR NOT NULL,
    day DATE NOT NULL,
    post_uuid VARCHAR NOT NULL,      -- empty instead of `undefined`
    pathname VARCHAR NOT NULL,
    kinds USMALLINT NOT NULL,        -- of all hits of the session on the page
    visits BIGINT NOT NULL
);

-- Holds the days that were examined for busy sites.
CREATE TABLE IF NOT EXISTS examined_days (
    day DATE NOT NULL
);

-- Holds the periods whose rows lie in the order of site and time; an earlier version sorted days only.
DROP TABLE IF EXISTS sorted_days;
CREATE TABLE IF NOT EXISTS sorted_periods (
    first_day DATE NOT NULL,
    days INTEGER NOT NULL,
    hits BIGINT NOT NULL,
    late_hits BIGINT NOT NULL        -- that arrived afterwards
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
