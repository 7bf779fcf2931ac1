-- Times are UTC without a zone. Missing text is the empty string.
-- One row for each session of a site, kept up to date by every append: what a dashboard asks most is answered from here.
CREATE TABLE IF NOT EXISTS sessions (
    session_no BIGINT NOT NULL,
    session_key UUID NOT NULL,       -- of site_uuid and session_id
    site_uuid VARCHAR NOT NULL,
    session_id VARCHAR NOT NULL,
    first_ts TIMESTAMP NOT NULL,
    last_ts TIMESTAMP NOT NULL,
    pageviews BIGINT NOT NULL,
    source VARCHAR NOT NULL,         -- this and what follows: of the first hit
    device VARCHAR NOT NULL,
    utm_source VARCHAR NOT NULL,
    utm_medium VARCHAR NOT NULL,
    utm_campaign VARCHAR NOT NULL,
    utm_term VARCHAR NOT NULL,
    utm_content VARCHAR NOT NULL
);

-- Hits arrive nearly in the order of time, so that a range of days reads few row groups.
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
    member_uuid VARCHAR NOT NULL,
    member_status VARCHAR NOT NULL,
    post_uuid VARCHAR NOT NULL,
    post_type VARCHAR NOT NULL,
    gift_link VARCHAR NOT NULL,
    locale VARCHAR NOT NULL,
    location VARCHAR NOT NULL,
    pathname VARCHAR NOT NULL,
    href VARCHAR NOT NULL,
    device VARCHAR NOT NULL,
    os VARCHAR NOT NULL,
    browser VARCHAR NOT NULL,
    user_agent VARCHAR NOT NULL,
    utm_source VARCHAR NOT NULL,
    utm_medium VARCHAR NOT NULL,
    utm_campaign VARCHAR NOT NULL,
    utm_term VARCHAR NOT NULL,
    utm_content VARCHAR NOT NULL,
    meta VARCHAR NOT NULL,           -- what else payload.meta held: JSON without the outer braces
    rest VARCHAR NOT NULL            -- what else the payload held, likewise
);

-- Rows kept as they came: test events, automations, events that are no page hits.
CREATE TABLE IF NOT EXISTS whole (
    name VARCHAR NOT NULL,
    site_uuid VARCHAR NOT NULL,
    ts TIMESTAMP NOT NULL,
    event VARCHAR NOT NULL,
    inserted_at TIMESTAMP NOT NULL
);

CREATE TABLE IF NOT EXISTS quarantine (
    name VARCHAR NOT NULL,
    row_text VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    inserted_at TIMESTAMP NOT NULL
);
