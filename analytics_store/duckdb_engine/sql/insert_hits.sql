-- Adds hits whose sessions are in the table.
INSERT INTO hits BY NAME
SELECT
    unnest($site_uuid::VARCHAR[]) AS site_uuid,
    unnest($ts::TIMESTAMP[]) AS ts,
    unnest($session_no::BIGINT[]) AS session_no,
    unnest($event_key::UUID[]) AS event_key,
    unnest($event_name::VARCHAR[]) AS event_name,
    unnest($version::VARCHAR[]) AS version,
    unnest($source::VARCHAR[]) AS source,
    unnest($received_at::TIMESTAMP[]) AS received_at,
    unnest($inserted_at::TIMESTAMP[]) AS inserted_at,
    unnest($@text::VARCHAR[]) AS @text,
    unnest($meta::VARCHAR[]) AS meta,
    unnest($rest::VARCHAR[]) AS rest
