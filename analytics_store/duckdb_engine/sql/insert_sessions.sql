-- Adds new sessions.
INSERT INTO sessions BY NAME
SELECT
    visit[1]::BIGINT AS session_no,
    visit[2]::UUID AS session_key,
    visit[3] AS site_uuid,
    visit[4] AS session_id,
    visit[5]::TIMESTAMP AS first_ts,
    visit[6]::TIMESTAMP AS last_ts,
    visit[7]::BIGINT AS pageviews,
    visit[8]::UTINYINT AS statuses
    , visit[8 + @nth] AS @fact
    , coalesce(visit[11 + @nth], '') AS @entry
FROM (SELECT from_json_strict(unnest($visits::VARCHAR[]), '["VARCHAR"]') AS visit)
