-- Returns the rows of a chart: the sessions that began in each slot, and the hits.
-- Since 1980 the hours of every time zone begin on a quarter of an hour of UTC: hits are counted by quarters, then by slots.
, slots AS (
    SELECT
        unnest($starts::TIMESTAMP[]) AS start,
        unnest($stops::TIMESTAMP[]) AS stop,
        unnest($labels::VARCHAR[]) AS label
),
session_quarters AS (
    SELECT
        time_bucket(INTERVAL 15 MINUTE, first_ts) AS quarter,
        count(*) AS visits,
        sum(pageviews) AS pageviews,
        count(*) FILTER (pageviews = 1) AS bounces,
        sum(date_diff('second', first_ts, last_ts)) AS seconds
    FROM wanted_sessions
    GROUP BY quarter
),
hit_quarters AS (
    SELECT time_bucket(INTERVAL 15 MINUTE, ts) AS quarter, count(*) AS pageviews
    FROM counted_hits
    WHERE $by_hit
    GROUP BY quarter
),
session_slots AS (
    SELECT
        slots.start,
        sum(visits) AS visits,
        sum(pageviews) AS pageviews,
        sum(bounces) AS bounces,
        sum(seconds) AS seconds
    FROM session_quarters JOIN slots ON quarter >= slots.start AND quarter < slots.stop
    GROUP BY slots.start
),
hit_slots AS (
    SELECT slots.start, sum(pageviews) AS pageviews
    FROM hit_quarters JOIN slots ON quarter >= slots.start AND quarter < slots.stop
    GROUP BY slots.start
)
SELECT
    slots.label AS date,
    coalesce(session_slots.visits, 0)::BIGINT AS visits,
    coalesce(if($by_hit, hit_slots.pageviews, session_slots.pageviews), 0)::BIGINT AS pageviews,
    -- Truncated as integers: 0.29 as a floating-point number times 100 is less than 29.
    coalesce(100 * session_slots.bounces // session_slots.visits, 0) / 100 AS bounce_rate,
    coalesce(100 * session_slots.seconds // session_slots.visits, 0) / 100 AS avg_session_sec
FROM slots
LEFT JOIN session_slots USING (start)
LEFT JOIN hit_slots USING (start)
ORDER BY slots.start
