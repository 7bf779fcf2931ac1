-- Adds new sessions.
INSERT INTO sessions BY NAME
SELECT
    session_no,
    visit.entry.session_key AS session_key,
    visit.entry.site_uuid AS site_uuid,
    visit.entry.session_id AS session_id,
    visit.entry.ts AS first_ts,
    visit.last_ts AS last_ts,
    visit.pageviews AS pageviews,
    visit.statuses AS statuses
    , visit.@fact AS @fact
    , visit.entry.texts.@entry AS @entry
FROM (
    SELECT
        unnest($session_no::BIGINT[]) AS session_no,
        from_json_strict(unnest($visits::VARCHAR[]), '{
            "entry": {
                "site_uuid": "VARCHAR",
                "session_key": "UUID",
                "session_id": "VARCHAR",
                "ts": "TIMESTAMP",
                "texts": {
                    "source": "VARCHAR"
                    , "@text": "VARCHAR"
                }
            },
            "last_ts": "TIMESTAMP",
            "pageviews": "BIGINT",
            "statuses": "UTINYINT"
            , "@fact": "VARCHAR"
        }') AS visit
)
