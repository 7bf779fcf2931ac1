-- Rows of Ghost's automations as they came, and which of them is the newest version of its row: by updated_at, of equal
-- ones by the moment of their coming, of equal ones the last. Questions and the deletion of all others go by it.
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
