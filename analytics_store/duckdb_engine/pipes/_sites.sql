-- Sites, and the most frequent host of each in its last day with hits: a single hit through a translator or proxy renames
-- no site.
WITH sites AS (
    SELECT site_uuid, count(*) AS sessions, min(first_ts) AS first_hit, max(last_ts) AS last_hit
    FROM sessions
    WHERE site_uuid = $site_uuid  -- if site_uuid
    GROUP BY site_uuid
),
hosts AS (
    SELECT site_uuid, mode(lower(regexp_extract(href, '^https?://([^/?#]+)', 1, 'i'))) AS host
    FROM hits JOIN sites USING (site_uuid)
    WHERE ts >= last_hit - INTERVAL 1 DAY
    GROUP BY site_uuid
)
