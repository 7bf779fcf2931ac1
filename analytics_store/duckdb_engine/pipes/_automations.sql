-- Defines the rows of Ghost's automations as they came, and the newest version of each row: by updated_at, then by the
-- time of arrival, then the last. Queries read the newest versions; collapse.sql deletes all others.
WITH automations AS NOT MATERIALIZED (
    SELECT *, rowid AS row_no
    FROM whole
    WHERE name IN ('automation_run_events', 'automation_run_step_events')
),
newest AS NOT MATERIALIZED (
    SELECT
        name,
        site_uuid,
        coalesce(event ->> '$.payload.id', event ->> '$.id') AS id,
        max(struct_pack(
            ts,
            inserted_at := coalesce(try_cast(event ->> '$.inserted_at' AS TIMESTAMP), inserted_at),
            row_no
        )).row_no AS row_no
    FROM automations
    GROUP BY ALL
)
