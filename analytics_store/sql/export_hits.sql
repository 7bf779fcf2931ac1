-- Hits of one day as Tinybird takes them: known texts that were empty become null, all else is as it came.
SELECT
    '{"timestamp":"' || strftime(ts, '%Y-%m-%dT%H:%M:%S.%gZ')
    || '","action":"page_hit","version":' || to_json(version)
    || ',"site_uuid":' || to_json(site_uuid)
    || ',"session_id":' || to_json(session_id)
    || ',"inserted_at":"' || strftime(inserted_at, '%Y-%m-%dT%H:%M:%S.%gZ')
    || '","payload":' || left(to_json({
        'event_id': if(event_name <> '', event_name, event_key::VARCHAR),
        'site_uuid': site_uuid,
        'member_uuid': nullif(member_uuid, ''),
        'member_status': nullif(member_status, ''),
        'post_uuid': nullif(post_uuid, ''),
        'post_type': nullif(post_type, ''),
        'gift_link': nullif(gift_link, ''),
        'locale': nullif(locale, ''),
        'location': nullif(location, ''),
        'pathname': nullif(pathname, ''),
        'href': nullif(href, ''),
        'device': device,
        'os': nullif(os, ''),
        'browser': nullif(browser, ''),
        'user-agent': nullif(user_agent, ''),
        'utm_source': nullif(utm_source, ''),
        'utm_medium': nullif(utm_medium, ''),
        'utm_campaign': nullif(utm_campaign, ''),
        'utm_term': nullif(utm_term, ''),
        'utm_content': nullif(utm_content, '')
    })::VARCHAR, -1)
    || ',"meta":{"received_timestamp":'
    || coalesce('"' || strftime(received_at, '%Y-%m-%dT%H:%M:%S.%gZ') || '"', 'null')
    || if(meta = '', '', ',' || meta) || '}'
    || if(rest = '', '', ',' || rest) || '}}'
FROM (
    SELECT hits.*, sessions.session_id
    FROM hits JOIN sessions USING (session_no)
    WHERE ts >= $since AND ts < $until
)
ORDER BY ts
