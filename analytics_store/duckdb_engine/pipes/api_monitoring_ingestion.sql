-- Milliseconds from the service to the store by day (UTC); the site is named only if the query names it.
SELECT
    strftime(ts, '%Y-%m-%d') AS date,
    $site_uuid::VARCHAR AS site_uuid,
    count(*) AS total_events,
    round(avg(latency)) AS avg_latency_ms,
    round(quantile_cont(latency, 0.5)) AS p50_latency_ms,
    round(quantile_cont(latency, 0.95)) AS p95_latency_ms,
    min(latency) AS min_latency_ms,
    max(latency) AS max_latency_ms
FROM (
    SELECT ts, epoch_ms(inserted_at) - epoch_ms(received_at) AS latency
    FROM hits
    WHERE ts >= $since AND ts < $until AND received_at IS NOT NULL
      AND ($site_uuid IS NULL OR site_uuid = $site_uuid)
)
GROUP BY date
ORDER BY date DESC
