-- Gives sessions a first hit that arrived after later ones.
UPDATE sessions SET
    first_ts = earlier.first_ts
    , @entry = earlier.@entry
FROM (
    SELECT
        unnest($session_no::BIGINT[]) AS session_no,
        unnest($first_ts::TIMESTAMP[]) AS first_ts
        , unnest($@entry::VARCHAR[]) AS @entry
) AS earlier
WHERE sessions.session_no = earlier.session_no
