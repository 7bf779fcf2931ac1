-- Milliseconds from the service to the store over all days of the range, as by day: always one row, but
-- none for an unknown site.
SELECT
    $site_uuid::VARCHAR AS site_uuid,  -- if site_uuid
    count(*) AS total_events,
    round_even(avg(latency), 0) AS avg_latency_ms,
    round_even(quantile_cont(latency, 0.5), 0) AS p50_latency_ms,
    round_even(quantile_cont(latency, 0.95), 0) AS p95_latency_ms,
    coalesce(min(latency), 0) AS min_latency_ms,
    coalesce(max(latency), 0) AS max_latency_ms
FROM (
    SELECT date_diff('millisecond', received_at, inserted_at) AS latency
    FROM hits
    WHERE inserted_at >= $since AND inserted_at < $until AND latency >= 0
      AND site_uuid = $site_uuid  -- if site_uuid
)
HAVING count(*) > 0  -- if site_uuid
