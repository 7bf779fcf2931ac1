-- Sites, most visited first. A week is the 7 × 24 hours until now, so that it compares with the one before.
, recent AS (
    SELECT site_uuid, first_ts, last_ts
    FROM sessions
    WHERE last_ts >= $since
    AND site_uuid = $site_uuid  -- if site_uuid
),
counts AS (
    SELECT
        site_uuid,
        count(*) FILTER (last_ts >= $active_since) AS active_visitors,
        count(*) FILTER (first_ts >= $today) AS visits_today,
        count(*) FILTER (first_ts >= $week) AS visits_week,
        count(*) FILTER (first_ts >= $since AND first_ts < $week) AS visits_week_before
    FROM recent
    GROUP BY site_uuid
),
days AS (
    SELECT unnest($starts::TIMESTAMP[]) AS start
),
day_counts AS (
    SELECT site_uuid, start, count(*) AS visits
    FROM recent ASOF JOIN days ON first_ts >= start
    GROUP BY site_uuid, start
),
day_lists AS (
    SELECT site_uuid, list(coalesce(visits, 0) ORDER BY start) AS daily_visits
    FROM sites CROSS JOIN days LEFT JOIN day_counts USING (site_uuid, start)
    GROUP BY site_uuid
)
SELECT
    site_uuid,
    coalesce(host, '') AS host,
    coalesce(active_visitors, 0) AS active_visitors,
    coalesce(visits_today, 0) AS visits_today,
    coalesce(visits_week, 0) AS visits_week,
    coalesce(visits_week_before, 0) AS visits_week_before,
    daily_visits,
    strftime(last_hit, '%Y-%m-%dT%H:%M:%S.%gZ') AS last_hit
FROM sites
LEFT JOIN hosts USING (site_uuid)
LEFT JOIN counts USING (site_uuid)
LEFT JOIN day_lists USING (site_uuid)
ORDER BY visits_week DESC, last_hit DESC, site_uuid
LIMIT $limit OFFSET $skip
