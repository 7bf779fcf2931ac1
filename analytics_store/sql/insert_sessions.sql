-- Adds sessions that are new.
INSERT INTO sessions BY NAME
SELECT
    unnest($session_no::BIGINT[]) AS session_no,
    unnest($session_key::UUID[]) AS session_key,
    unnest($site_uuid::VARCHAR[]) AS site_uuid,
    unnest($session_id::VARCHAR[]) AS session_id,
    unnest($first_ts::TIMESTAMP[]) AS first_ts,
    unnest($last_ts::TIMESTAMP[]) AS last_ts,
    unnest($pageviews::BIGINT[]) AS pageviews,
    unnest($source::VARCHAR[]) AS source,
    unnest($device::VARCHAR[]) AS device,
    unnest($utm_source::VARCHAR[]) AS utm_source,
    unnest($utm_medium::VARCHAR[]) AS utm_medium,
    unnest($utm_campaign::VARCHAR[]) AS utm_campaign,
    unnest($utm_term::VARCHAR[]) AS utm_term,
    unnest($utm_content::VARCHAR[]) AS utm_content
