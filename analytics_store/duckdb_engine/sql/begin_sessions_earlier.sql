-- Gives sessions a first hit that arrived after later ones.
UPDATE sessions SET
    first_ts = earlier.visit.entry.ts
    , @entry = earlier.visit.entry.texts.@entry
FROM (
    SELECT
        unnest($session_no::BIGINT[]) AS session_no,
        from_json_strict(unnest($visits::VARCHAR[]), '{
            "entry": {
                "ts": "TIMESTAMP",
                "texts": {
                    "source": "VARCHAR"
                    , "@text": "VARCHAR"
                }
            }
        }') AS visit
) AS earlier
WHERE sessions.session_no = earlier.session_no
