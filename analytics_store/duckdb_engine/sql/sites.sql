-- Counts the content of each site.
, of_hits AS (
    SELECT site_uuid, count(*) AS hits FROM hits GROUP BY site_uuid
),
of_whole AS (
    SELECT site_uuid, count(*) AS other_rows FROM whole GROUP BY site_uuid
)
SELECT
    site_uuid,
    coalesce(host, '') AS host,
    coalesce(hits, 0) AS hits,
    coalesce(sessions, 0) AS sessions,
    strftime(sites.first_hit, '%Y-%m-%dT%H:%M:%S.%gZ') AS first_hit,
    strftime(sites.last_hit, '%Y-%m-%dT%H:%M:%S.%gZ') AS last_hit,
    coalesce(other_rows, 0) AS other_rows
FROM of_hits
LEFT JOIN sites USING (site_uuid)
LEFT JOIN hosts USING (site_uuid)
FULL JOIN of_whole USING (site_uuid)
ORDER BY hits DESC, site_uuid
