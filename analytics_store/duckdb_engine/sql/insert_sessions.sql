-- Adds new sessions.
INSERT INTO sessions BY NAME
SELECT
    unnest($session_no::BIGINT[]) AS session_no,
    unnest($session_key::UUID[]) AS session_key,
    unnest($site_uuid::VARCHAR[]) AS site_uuid,
    unnest($session_id::VARCHAR[]) AS session_id,
    unnest($first_ts::TIMESTAMP[]) AS first_ts,
    unnest($last_ts::TIMESTAMP[]) AS last_ts,
    unnest($pageviews::BIGINT[]) AS pageviews
    , unnest($@entry::VARCHAR[]) AS @entry
