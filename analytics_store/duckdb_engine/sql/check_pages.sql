-- Counts the rows of page_days that differ from what the hits of the settled days give.
WITH pages AS (
    SELECT
        hits.site_uuid,
        sessions.first_ts::DATE AS day,
        session_no,
        if(post_uuid = 'undefined', '', post_uuid) AS post_uuid,
        pathname,
        bit_or(kind_bit(member_status, post_type)) AS kinds
    FROM hits JOIN sessions USING (session_no)
    WHERE (sessions.site_uuid, sessions.first_ts::DATE) IN (SELECT (site_uuid, day) FROM settled_days)
    GROUP BY ALL
),
computed AS (
    SELECT site_uuid, day, post_uuid, pathname, kinds, count(*) AS visits FROM pages GROUP BY ALL
)
SELECT count(*) FROM ((FROM computed EXCEPT ALL FROM page_days) UNION ALL (FROM page_days EXCEPT ALL FROM computed))
