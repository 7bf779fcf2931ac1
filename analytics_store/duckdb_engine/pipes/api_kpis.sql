-- Returns the rows of a chart: the sessions that began in each slot, and the hits.
-- Both are counted by buckets first, then by slots: the bounds of all slots are a multiple of $width from $until.
, slots AS MATERIALIZED (
    SELECT
        unnest($starts::TIMESTAMP[]) AS start,
        unnest($stops::TIMESTAMP[]) AS stop,
        unnest($labels::VARCHAR[]) AS label
),
session_buckets AS (
    SELECT
        time_bucket($width::INTERVAL, first_ts, $until::TIMESTAMP) AS bucket,
        count(*) AS visits,
        sum(pageviews) AS pageviews,
        -- Takes half as long as count(*) with a FILTER.
        count_if(pageviews = 1) AS bounces,
        sum(date_diff('second', first_ts, last_ts)) AS seconds
    FROM wanted_sessions
    GROUP BY bucket
),
hit_buckets AS (
    SELECT time_bucket($width::INTERVAL, ts, $until::TIMESTAMP) AS bucket, count(*) AS pageviews
    FROM counted_hits
    GROUP BY bucket
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
    -- Slots do not overlap, so the last that begins before a bucket is its only one.
    FROM session_buckets ASOF JOIN filled_slots ON bucket >= start
    WHERE bucket < stop
    GROUP BY start, stop
),
hit_slots AS (
    SELECT start, stop, sum(pageviews) AS pageviews
    FROM hit_buckets ASOF JOIN filled_slots ON bucket >= start
    WHERE bucket < stop
    GROUP BY start, stop
)
SELECT
    slots.label AS date,
    coalesce(session_slots.visits, 0)::BIGINT AS visits,
    coalesce(hit_slots.pageviews, 0)::BIGINT AS pageviews,  -- if by_hit
    coalesce(session_slots.pageviews, 0)::BIGINT AS pageviews,  -- if not by_hit
    -- Truncated as integers: 0.29 as a floating-point number times 100 is less than 29.
    coalesce(100 * session_slots.bounces // session_slots.visits, 0) / 100 AS bounce_rate,
    coalesce(100 * session_slots.seconds // session_slots.visits, 0) / 100 AS avg_session_sec
FROM slots
LEFT JOIN session_slots USING (start, stop)
LEFT JOIN hit_slots USING (start, stop)  -- if by_hit
ORDER BY start, stop
