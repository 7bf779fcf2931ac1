-- Deletes what is older than $before, and corrects the sessions that began before it and went on after.
DELETE FROM hits WHERE ts < $before;

DELETE FROM sessions WHERE last_ts < $before;

UPDATE sessions SET
    first_ts = kept.first_ts,
    pageviews = kept.pageviews,
    source = entry.source,
    device = entry.device,
    utm_source = entry.utm_source,
    utm_medium = entry.utm_medium,
    utm_campaign = entry.utm_campaign,
    utm_term = entry.utm_term,
    utm_content = entry.utm_content
FROM (
    SELECT
        session_no,
        min(ts) AS first_ts,
        count(*) AS pageviews,
        arg_min(struct_pack(source, device, utm_source, utm_medium, utm_campaign, utm_term, utm_content), ts) AS entry
    FROM hits
    WHERE session_no IN (SELECT session_no FROM sessions WHERE first_ts < $before)
    GROUP BY session_no
) AS kept
WHERE sessions.session_no = kept.session_no;

DELETE FROM whole WHERE ts < $before AND name LIKE 'analytics_events%';

DELETE FROM quarantine WHERE inserted_at < $before;
