-- Adds hits to sessions in the table.
UPDATE sessions SET
    pageviews = sessions.pageviews + more.visit.pageviews,
    last_ts = greatest(sessions.last_ts, more.visit.last_ts),
    statuses = sessions.statuses | more.visit.statuses
    , @fact = if(sessions.@fact = more.visit.@fact, sessions.@fact, NULL)
FROM (
    SELECT
        unnest($session_no::BIGINT[]) AS session_no,
        from_json_strict(unnest($visits::VARCHAR[]), '{
            "last_ts": "TIMESTAMP",
            "pageviews": "BIGINT",
            "statuses": "UTINYINT"
            , "@fact": "VARCHAR"
        }') AS visit
) AS more
WHERE sessions.session_no = more.session_no
