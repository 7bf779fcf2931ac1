-- Deletes the rows that are older than $before, and corrects the sessions that began before it and went on after it.
-- $site limits this to one site; without it, sites of $but keep their rows. Both are in lower case.
DELETE FROM hits
WHERE ts < $before
  AND ($site IS NULL OR lower(site_uuid) = $site) AND NOT list_contains($but::VARCHAR[], lower(site_uuid));

DELETE FROM sessions
WHERE last_ts < $before
  AND ($site IS NULL OR lower(site_uuid) = $site) AND NOT list_contains($but::VARCHAR[], lower(site_uuid));

UPDATE sessions SET
    first_ts = remaining.first_ts,
    pageviews = remaining.pageviews
    , @entry = entry.@entry
FROM (
    SELECT
        session_no,
        min(ts) AS first_ts,
        count(*) AS pageviews,
        arg_min(struct_pack(
            ts
            , @entry
        ), ts) AS entry
    FROM hits
    WHERE session_no IN (
        SELECT session_no FROM sessions
        WHERE first_ts < $before
          AND ($site IS NULL OR lower(site_uuid) = $site) AND NOT list_contains($but::VARCHAR[], lower(site_uuid))
    )
    GROUP BY session_no
) AS remaining
WHERE sessions.session_no = remaining.session_no;

DELETE FROM whole
WHERE ts < $before AND name LIKE 'analytics_events%'
  AND ($site IS NULL OR lower(site_uuid) = $site) AND NOT list_contains($but::VARCHAR[], lower(site_uuid));

DELETE FROM quarantine WHERE inserted_at < $before AND $site IS NULL;
