-- Milliseconds from the service to the store by day of storage (UTC), without hits whose time of receipt is missing or
-- later; the site is named only if the query names it.
SELECT
    strftime(day, '%Y-%m-%d') AS date,
    $site_uuid::VARCHAR AS site_uuid,  -- if site_uuid
    count(*) AS total_events,
    round_even(avg(latency), 0) AS avg_latency_ms,
    round_even(quantile_cont(latency, 0.5), 0) AS p50_latency_ms,
    round_even(quantile_cont(latency, 0.95), 0) AS p95_latency_ms,
    min(latency) AS min_latency_ms,
    max(latency) AS max_latency_ms
FROM (
    SELECT inserted_at::DATE AS day, date_diff('millisecond', received_at, inserted_at) AS latency
    FROM hits
    WHERE inserted_at >= $since AND inserted_at < $until AND latency >= 0
      AND site_uuid = $site_uuid  -- if site_uuid
)
GROUP BY day
ORDER BY day DESC
