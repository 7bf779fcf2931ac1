-- Exports the hits of a piece, `rows`, in Tinybird's form: empty texts of known fields become null, all else is as it came.
SELECT
    '{"timestamp":"' || strftime(ts, '%Y-%m-%dT%H:%M:%S.%gZ')
    || '","action":"page_hit","version":' || to_json(version)
    || ',"site_uuid":' || to_json(site_uuid)
    || ',"session_id":' || to_json(session_id)
    || ',"inserted_at":"' || strftime(inserted_at, '%Y-%m-%dT%H:%M:%S.%gZ')
    || '","payload":' || left(to_json({
        'event_id': if(event_name <> '', event_name, event_key::VARCHAR),
        'site_uuid': site_uuid
        , '@field': nullif(@text, '')
    })::VARCHAR, -1)
    || ',"meta":{"received_timestamp":'
    || coalesce('"' || strftime(received_at, '%Y-%m-%dT%H:%M:%S.%gZ') || '"', 'null')
    || if(meta = '', '', ',' || meta) || '}'
    || if(rest = '', '', ',' || rest) || '}}'
FROM (
    SELECT rows.*, sessions.session_id
    FROM rows JOIN sessions USING (session_no)
)
ORDER BY ts
