-- Runs by automation; one is in progress if the newest version of any of its steps is pending.
SELECT
    event ->> '$.payload.automation_id' AS automation_id,
    strftime(max((event ->> '$.payload.created_at')::TIMESTAMP), '%Y-%m-%dT%H:%M:%S.%gZ') AS last_run_created_at,
    count(*) AS total_run_count,
    count(*) FILTER (id IN (
        SELECT event ->> '$.payload.automation_run_id'
        FROM newest JOIN automations USING (row_no)
        WHERE newest.name = 'automation_run_step_events' AND newest.site_uuid = $site_uuid
          AND event ->> '$.payload.status' = 'pending'
    )) AS in_progress_run_count
FROM newest JOIN automations USING (row_no)
WHERE newest.name = 'automation_run_events' AND newest.site_uuid = $site_uuid
GROUP BY automation_id
ORDER BY total_run_count DESC, automation_id
