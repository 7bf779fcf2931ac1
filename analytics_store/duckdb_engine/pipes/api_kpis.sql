-- Returns the rows of a chart: the sessions that began in each slot, and the hits.
-- Hits are counted by quarters of an hour, then by slots: all slots are a multiple of 15 minutes from $until, whose hours
-- need not begin on a quarter of UTC if the zone is an offset such as +05:20.
, slots AS MATERIALIZED (
    SELECT
        unnest($starts::TIMESTAMP[]) AS start,
        unnest($stops::TIMESTAMP[]) AS stop,
        unnest($labels::VARCHAR[]) AS label
),
session_quarters AS (
    SELECT
        time_bucket(INTERVAL 15 MINUTE, first_ts, $until::TIMESTAMP) AS quarter,
        count(*) AS visits,
        sum(pageviews) AS pageviews,
        count(*) FILTER (pageviews = 1) AS bounces,
        sum(date_diff('second', first_ts, last_ts)) AS seconds
    FROM wanted_sessions
    GROUP BY quarter
),
hit_quarters AS (
    SELECT time_bucket(INTERVAL 15 MINUTE, ts, $until::TIMESTAMP) AS quarter, count(*) AS pageviews
    FROM counted_hits
    WHERE $by_hit
    GROUP BY quarter
),
-- A day that the clock skipped has no time of its own, and begins with the next day.
filled_slots AS (
    SELECT start, stop FROM slots WHERE start < stop
),
session_slots AS (
    SELECT
        start,
        stop,
        sum(visits) AS visits,
        sum(pageviews) AS pageviews,
        sum(bounces) AS bounces,
        sum(seconds) AS seconds
    -- Slots do not overlap, so the last that begins before a quarter is its only one.
    FROM session_quarters ASOF JOIN filled_slots ON quarter >= start
    WHERE quarter < stop
    GROUP BY start, stop
),
hit_slots AS (
    SELECT start, stop, sum(pageviews) AS pageviews
    FROM hit_quarters ASOF JOIN filled_slots ON quarter >= start
    WHERE quarter < stop
    GROUP BY start, stop
)
SELECT
    slots.label AS date,
    coalesce(session_slots.visits, 0)::BIGINT AS visits,
    coalesce(if($by_hit, hit_slots.pageviews, session_slots.pageviews), 0)::BIGINT AS pageviews,
    -- Truncated as integers: 0.29 as a floating-point number times 100 is less than 29.
    coalesce(100 * session_slots.bounces // session_slots.visits, 0) / 100 AS bounce_rate,
    coalesce(100 * session_slots.seconds // session_slots.visits, 0) / 100 AS avg_session_sec
FROM slots
LEFT JOIN session_slots USING (start, stop)
LEFT JOIN hit_slots USING (start, stop)
ORDER BY start, stop
