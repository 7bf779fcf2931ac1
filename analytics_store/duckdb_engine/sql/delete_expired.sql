-- Deletes the rows that are older than $before, and corrects the sessions that began before it and went on after it.
-- $site limits this to one site; without it, sites of $but keep their rows. Both are in lower case.
DELETE FROM hits
WHERE ts < $before
  AND ($site IS NULL OR lower(site_uuid) = $site) AND NOT list_contains($but::VARCHAR[], lower(site_uuid));

DELETE FROM sessions
WHERE last_ts < $before
  AND ($site IS NULL OR lower(site_uuid) = $site) AND NOT list_contains($but::VARCHAR[], lower(site_uuid));

CREATE OR REPLACE TEMP TABLE remaining AS
SELECT
    any_value(site_uuid) AS site_uuid,
    session_no,
    min(ts) AS first_ts,
    count(*) AS pageviews,
    bit_or(status_bit(member_status)) AS statuses,
    arg_min(struct_pack(
        ts
        , @entry
    ), ts) AS entry
    , if(min(@fact) = max(@fact), min(@fact), NULL) AS @fact
FROM hits
WHERE session_no IN (
    SELECT session_no FROM sessions
    WHERE first_ts < $before
      AND ($site IS NULL OR lower(site_uuid) = $site) AND NOT list_contains($but::VARCHAR[], lower(site_uuid))
)
GROUP BY session_no;

DELETE FROM page_days
WHERE (
    day <= $before::DATE
    AND ($site IS NULL OR lower(site_uuid) = $site) AND NOT list_contains($but::VARCHAR[], lower(site_uuid))
) OR (site_uuid, day) IN (SELECT (site_uuid, first_ts::DATE) FROM remaining);

DELETE FROM settled_days
WHERE (
    day <= $before::DATE
    AND ($site IS NULL OR lower(site_uuid) = $site) AND NOT list_contains($but::VARCHAR[], lower(site_uuid))
) OR (site_uuid, day) IN (SELECT (site_uuid, first_ts::DATE) FROM remaining);

DELETE FROM examined_days WHERE day IN (SELECT first_ts::DATE FROM remaining);

UPDATE sessions SET
    first_ts = remaining.first_ts,
    pageviews = remaining.pageviews,
    statuses = remaining.statuses
    , @fact = remaining.@fact
    , @entry = entry.@entry
FROM remaining
WHERE sessions.session_no = remaining.session_no;

DROP TABLE remaining;

DELETE FROM whole
WHERE ts < $before AND name LIKE 'analytics_events%'
  AND ($site IS NULL OR lower(site_uuid) = $site) AND NOT list_contains($but::VARCHAR[], lower(site_uuid));

DELETE FROM quarantine WHERE inserted_at < $before AND $site IS NULL;
