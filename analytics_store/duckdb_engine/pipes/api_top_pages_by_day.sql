-- Sessions by page, for queries with no other filters than member_status and post_type.
-- Sessions that began on a settled day of the range are in page_days. All other sessions are read from their hits; those
-- of settled days that went on after the range are subtracted, and also read from their hits.
WITH days AS MATERIALIZED (
    SELECT day FROM settled_days
    WHERE site_uuid = $site_uuid
      AND day >= ($since::TIMESTAMP + INTERVAL 1 DAY - INTERVAL 1 MICROSECOND)::DATE AND day < $until::TIMESTAMP::DATE
),
other_sessions AS MATERIALIZED (
    SELECT
        session_no,
        last_ts,
        first_ts::DATE IN (SELECT day FROM days) AS is_counted,
        first_ts < coalesce((SELECT min(day) FROM days), $since) AS is_earlier
    FROM sessions
    WHERE site_uuid = $site_uuid AND first_ts < $until AND last_ts >= $since
      AND (last_ts >= $until OR first_ts::DATE NOT IN (SELECT day FROM days))
      AND (statuses IS NULL OR statuses & $statuses <> 0)  -- if statuses
),
-- Read apart from the later ones: sessions of one time have adjacent numbers, so few row groups are read.
earlier_hits AS NOT MATERIALIZED (
    SELECT * FROM hits
    WHERE site_uuid = $site_uuid AND ts >= $since AND ts < $until
      AND ts <= (SELECT max(last_ts) FROM other_sessions WHERE is_earlier)
      AND session_no IN (SELECT session_no FROM other_sessions WHERE is_earlier)
      AND list_contains($member_statuses, member_status)  -- if member_statuses
      AND (post_type = 'post') = $is_post  -- if is_post
),
later_hits AS MATERIALIZED (
    SELECT session_no, post_uuid, pathname, ts < $until AS is_in_range, is_counted
    FROM hits JOIN other_sessions USING (session_no)
    WHERE site_uuid = $site_uuid AND ts >= $since AND NOT is_earlier
      AND list_contains($member_statuses, member_status)  -- if member_statuses
      AND (post_type = 'post') = $is_post  -- if is_post
),
parts AS NOT MATERIALIZED (
    SELECT post_uuid, pathname, visits FROM page_days
    WHERE site_uuid = $site_uuid AND day IN (SELECT day FROM days)
      AND kinds & (
          coalesce($statuses::INTEGER, 127) * CASE $is_post WHEN true THEN 1 WHEN false THEN 256 ELSE 257 END
      )::USMALLINT <> 0
    UNION ALL
    SELECT post_uuid, pathname, 1
    FROM (
        SELECT DISTINCT session_no, if(post_uuid = 'undefined', '', post_uuid) AS post_uuid, pathname
        FROM (
            SELECT session_no, post_uuid, pathname FROM earlier_hits
            UNION ALL
            SELECT session_no, post_uuid, pathname FROM later_hits WHERE is_in_range
        )
    )
    UNION ALL
    SELECT post_uuid, pathname, -1
    FROM (
        SELECT DISTINCT session_no, if(post_uuid = 'undefined', '', post_uuid) AS post_uuid, pathname
        FROM later_hits
        WHERE is_counted
    )
)
SELECT post_uuid, pathname, sum(visits)::BIGINT AS visits
FROM parts
GROUP BY post_uuid, pathname
HAVING sum(visits) > 0
ORDER BY visits DESC, pathname, post_uuid
LIMIT $limit OFFSET $skip
