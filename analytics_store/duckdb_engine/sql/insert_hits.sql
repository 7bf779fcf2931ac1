-- Adds hits whose sessions are in the table.
INSERT INTO hits BY NAME
SELECT
    hit[1]::BIGINT AS session_no,
    hit[2] AS site_uuid,
    hit[3]::TIMESTAMP AS ts,
    hit[4]::UUID AS event_key,
    hit[5] AS event_name,
    hit[6] AS version,
    hit[7] AS source,
    hit[8]::TIMESTAMP AS received_at,
    hit[9]::TIMESTAMP AS inserted_at,
    hit[10] AS meta,
    hit[11] AS rest
    , coalesce(hit[11 + @nth], '') AS @text
FROM (SELECT from_json_strict(unnest($hits::VARCHAR[]), '["VARCHAR"]') AS hit)
