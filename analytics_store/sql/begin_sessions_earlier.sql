-- Gives sessions the first hit that came after later ones.
UPDATE sessions SET
    first_ts = earlier.first_ts,
    source = earlier.source,
    device = earlier.device,
    utm_source = earlier.utm_source,
    utm_medium = earlier.utm_medium,
    utm_campaign = earlier.utm_campaign,
    utm_term = earlier.utm_term,
    utm_content = earlier.utm_content
FROM (
    SELECT
        unnest($session_no::BIGINT[]) AS session_no,
        unnest($first_ts::TIMESTAMP[]) AS first_ts,
        unnest($source::VARCHAR[]) AS source,
        unnest($device::VARCHAR[]) AS device,
        unnest($utm_source::VARCHAR[]) AS utm_source,
        unnest($utm_medium::VARCHAR[]) AS utm_medium,
        unnest($utm_campaign::VARCHAR[]) AS utm_campaign,
        unnest($utm_term::VARCHAR[]) AS utm_term,
        unnest($utm_content::VARCHAR[]) AS utm_content
) AS earlier
WHERE sessions.session_no = earlier.session_no
