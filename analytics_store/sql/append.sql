-- Adds a batch of hits ($name: one list per column, $rows: how many) in one transaction.
CREATE OR REPLACE TEMP TABLE batch AS
SELECT
    unnest(range($rows)) AS place,
    unnest($ts::TIMESTAMP[]) AS ts,
    unnest($site_uuid::VARCHAR[]) AS site_uuid,
    unnest($session_id::VARCHAR[]) AS session_id,
    unnest($session_key::UUID[]) AS session_key,
    unnest($event_key::UUID[]) AS event_key,
    unnest($event_name::VARCHAR[]) AS event_name,
    unnest($version::VARCHAR[]) AS version,
    unnest($source::VARCHAR[]) AS source,
    unnest($received_at::TIMESTAMP[]) AS received_at,
    unnest($inserted_at::TIMESTAMP[]) AS inserted_at,
    unnest($member_uuid::VARCHAR[]) AS member_uuid,
    unnest($member_status::VARCHAR[]) AS member_status,
    unnest($post_uuid::VARCHAR[]) AS post_uuid,
    unnest($post_type::VARCHAR[]) AS post_type,
    unnest($gift_link::VARCHAR[]) AS gift_link,
    unnest($locale::VARCHAR[]) AS locale,
    unnest($location::VARCHAR[]) AS location,
    unnest($pathname::VARCHAR[]) AS pathname,
    unnest($href::VARCHAR[]) AS href,
    unnest($device::VARCHAR[]) AS device,
    unnest($os::VARCHAR[]) AS os,
    unnest($browser::VARCHAR[]) AS browser,
    unnest($user_agent::VARCHAR[]) AS user_agent,
    unnest($utm_source::VARCHAR[]) AS utm_source,
    unnest($utm_medium::VARCHAR[]) AS utm_medium,
    unnest($utm_campaign::VARCHAR[]) AS utm_campaign,
    unnest($utm_term::VARCHAR[]) AS utm_term,
    unnest($utm_content::VARCHAR[]) AS utm_content,
    unnest($meta::VARCHAR[]) AS meta,
    unnest($rest::VARCHAR[]) AS rest;

-- A repeat carries the event_id of a hit of the same site that is here already, or stands earlier in the batch.
CREATE OR REPLACE TEMP TABLE fresh AS
SELECT * FROM batch
WHERE event_key IS NULL
   OR (
       place IN (SELECT min(place) FROM batch WHERE event_key IS NOT NULL GROUP BY site_uuid, event_key)
       AND NOT EXISTS (
           SELECT 1 FROM hits
           WHERE hits.ts >= $first::TIMESTAMP - INTERVAL 1 DAY AND hits.ts <= $last::TIMESTAMP + INTERVAL 1 DAY
             AND hits.event_key = batch.event_key AND hits.site_uuid = batch.site_uuid
       )
   );

CREATE OR REPLACE TEMP TABLE touched AS
SELECT
    session_key,
    any_value(site_uuid) AS site_uuid,
    any_value(session_id) AS session_id,
    min(ts) AS first_ts,
    max(ts) AS last_ts,
    count(*) AS pageviews,
    arg_min(
        struct_pack(source, device, utm_source, utm_medium, utm_campaign, utm_term, utm_content), (ts, place)
    ) AS entry
FROM fresh
GROUP BY session_key;

UPDATE sessions SET
    pageviews = sessions.pageviews + touched.pageviews,
    last_ts = greatest(sessions.last_ts, touched.last_ts),
    first_ts = least(sessions.first_ts, touched.first_ts),
    source = if(touched.first_ts < sessions.first_ts, entry.source, sessions.source),
    device = if(touched.first_ts < sessions.first_ts, entry.device, sessions.device),
    utm_source = if(touched.first_ts < sessions.first_ts, entry.utm_source, sessions.utm_source),
    utm_medium = if(touched.first_ts < sessions.first_ts, entry.utm_medium, sessions.utm_medium),
    utm_campaign = if(touched.first_ts < sessions.first_ts, entry.utm_campaign, sessions.utm_campaign),
    utm_term = if(touched.first_ts < sessions.first_ts, entry.utm_term, sessions.utm_term),
    utm_content = if(touched.first_ts < sessions.first_ts, entry.utm_content, sessions.utm_content)
FROM touched
WHERE sessions.session_key = touched.session_key;

INSERT INTO sessions
SELECT
    nextval('session_numbers'), session_key, site_uuid, session_id, first_ts, last_ts, pageviews,
    entry.source, entry.device,
    entry.utm_source, entry.utm_medium, entry.utm_campaign, entry.utm_term, entry.utm_content
FROM touched
WHERE session_key NOT IN (SELECT session_key FROM sessions)
ORDER BY first_ts;

INSERT INTO hits BY NAME
SELECT fresh.* EXCLUDE (place, session_key, session_id), sessions.session_no
FROM fresh JOIN sessions USING (session_key)
ORDER BY fresh.ts, fresh.place;
