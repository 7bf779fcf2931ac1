-- Adds hits whose sessions are in the table.
INSERT INTO hits BY NAME
SELECT
    hit.site_uuid AS site_uuid,
    hit.ts AS ts,
    session_no,
    hit.event_key AS event_key,
    hit.event_name AS event_name,
    hit.version AS version,
    hit.texts.source AS source,
    hit.received_at AS received_at,
    hit.inserted_at AS inserted_at,
    hit.texts.@text AS @text,
    hit.meta AS meta,
    hit.rest AS rest
FROM (
    SELECT
        unnest($session_no::BIGINT[]) AS session_no,
        from_json_strict(unnest($hits::VARCHAR[]), '{
            "ts": "TIMESTAMP",
            "site_uuid": "VARCHAR",
            "event_key": "UUID",
            "event_name": "VARCHAR",
            "version": "VARCHAR",
            "received_at": "TIMESTAMP",
            "inserted_at": "TIMESTAMP",
            "texts": {
                "source": "VARCHAR"
                , "@text": "VARCHAR"
            },
            "meta": "VARCHAR",
            "rest": "VARCHAR"
        }') AS hit
)
