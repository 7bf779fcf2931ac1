-- Counts the content of each site. A site's host is the most frequent one of its last day with hits.
WITH of_sessions AS (
    SELECT site_uuid, count(*) AS sessions, min(first_ts) AS first_ts, max(last_ts) AS last_ts
    FROM sessions GROUP BY site_uuid
),
of_hits AS (
    SELECT site_uuid, count(*) AS hits FROM hits GROUP BY site_uuid
),
hosts AS (
    SELECT site_uuid, mode(lower(regexp_extract(href, '^https?://([^/?#]+)', 1, 'i'))) AS host
    FROM hits JOIN of_sessions USING (site_uuid)
    WHERE ts >= last_ts - INTERVAL 1 DAY
    GROUP BY site_uuid
),
of_whole AS (
    SELECT site_uuid, count(*) AS other_rows FROM whole GROUP BY site_uuid
)
SELECT
    site_uuid,
    coalesce(host, '') AS host,
    coalesce(hits, 0) AS hits,
    coalesce(sessions, 0) AS sessions,
    strftime(first_ts, '%Y-%m-%dT%H:%M:%S.%gZ') AS first_hit,
    strftime(last_ts, '%Y-%m-%dT%H:%M:%S.%gZ') AS last_hit,
    coalesce(other_rows, 0) AS other_rows
FROM of_hits
LEFT JOIN of_sessions USING (site_uuid)
LEFT JOIN hosts USING (site_uuid)
FULL JOIN of_whole USING (site_uuid)
ORDER BY hits DESC, site_uuid
