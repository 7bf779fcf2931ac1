-- Gives sessions a first hit that arrived after later ones.
UPDATE sessions SET
    first_ts = visit[5]::TIMESTAMP
    , @entry = coalesce(visit[11 + @nth], '')
FROM (SELECT from_json_strict(unnest($visits::VARCHAR[]), '["VARCHAR"]') AS visit)
WHERE sessions.session_no = visit[1]::BIGINT
