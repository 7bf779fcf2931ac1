-- Adds hits to sessions in the table.
UPDATE sessions SET
    pageviews = sessions.pageviews + visit[7]::BIGINT,
    last_ts = greatest(sessions.last_ts, visit[6]::TIMESTAMP),
    statuses = sessions.statuses | visit[8]::UTINYINT
    , @fact = if(sessions.@fact = visit[8 + @nth], sessions.@fact, NULL)
FROM (SELECT from_json_strict(unnest($visits::VARCHAR[]), '["VARCHAR"]') AS visit)
WHERE sessions.session_no = visit[1]::BIGINT
