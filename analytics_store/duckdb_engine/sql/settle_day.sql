-- Counts the sessions that began on a day by page, for some sites.
INSERT INTO settled_days SELECT unnest($sites::VARCHAR[]), $day::DATE;

INSERT INTO page_days
WITH begun AS MATERIALIZED (
    SELECT session_no, last_ts FROM sessions
    WHERE first_ts >= $day::TIMESTAMP AND first_ts < $day::TIMESTAMP + INTERVAL 1 DAY
      AND site_uuid IN (SELECT unnest($sites::VARCHAR[]))
),
pages AS (
    SELECT
        site_uuid,
        session_no,
        if(post_uuid = 'undefined', '', post_uuid) AS post_uuid,
        pathname,
        bit_or(kind_bit(member_status, post_type)) AS kinds
    FROM hits
    WHERE ts >= $day::TIMESTAMP AND ts <= (SELECT max(last_ts) FROM begun)
      AND session_no IN (SELECT session_no FROM begun)
    GROUP BY ALL
)
SELECT site_uuid, $day::DATE AS day, post_uuid, pathname, kinds, count(*) AS visits
FROM pages
GROUP BY ALL
ORDER BY ALL;
