-- Runs by automation; one is in progress if the newest version of any of its steps is pending.
WITH events AS (
    SELECT name, event, ts, coalesce(try_cast(event ->> '$.inserted_at' AS TIMESTAMP), inserted_at) AS inserted_at
    FROM whole
    WHERE site_uuid = $site_uuid
),
runs AS (
    SELECT
        coalesce(event ->> '$.payload.id', event ->> '$.id') AS run_id,
        arg_max(event ->> '$.payload.automation_id', (ts, inserted_at)) AS automation_id,
        arg_max((event ->> '$.payload.created_at')::TIMESTAMP, (ts, inserted_at)) AS created_at
    FROM events
    WHERE name = 'automation_run_events'
    GROUP BY run_id
),
steps AS (
    SELECT
        coalesce(event ->> '$.payload.id', event ->> '$.id') AS step_id,
        arg_max(event ->> '$.payload.automation_run_id', (ts, inserted_at)) AS run_id,
        arg_max(event ->> '$.payload.status', (ts, inserted_at)) AS status
    FROM events
    WHERE name = 'automation_run_step_events'
    GROUP BY step_id
)
SELECT
    automation_id,
    strftime(max(created_at), '%Y-%m-%dT%H:%M:%S.%gZ') AS last_run_created_at,
    count(*) AS total_run_count,
    count(*) FILTER (run_id IN (SELECT run_id FROM steps WHERE status = 'pending')) AS in_progress_run_count
FROM runs
GROUP BY automation_id
ORDER BY total_run_count DESC, automation_id
