-- Adds hits to sessions in the table.
UPDATE sessions SET
    pageviews = sessions.pageviews + more.pageviews,
    last_ts = greatest(sessions.last_ts, more.last_ts)
FROM (
    SELECT
        unnest($session_no::BIGINT[]) AS session_no,
        unnest($pageviews::BIGINT[]) AS pageviews,
        unnest($last_ts::TIMESTAMP[]) AS last_ts
) AS more
WHERE sessions.session_no = more.session_no
