-- Counts the sessions that differ from what their hits give.
WITH computed AS (
    SELECT
        session_no,
        min(site_uuid) AS site_uuid,
        max(site_uuid) AS last_site_uuid,
        min(ts) AS first_ts,
        max(ts) AS last_ts,
        count(*) AS pageviews,
        bit_or(status_bit(member_status)) AS statuses
        , if(min(@fact) = max(@fact), min(@fact), NULL) AS @fact
    FROM hits
    GROUP BY session_no
),
entries AS (
    -- Any of several hits at the same time may be the first.
    SELECT DISTINCT session_no
    FROM hits JOIN sessions USING (session_no)
    WHERE hits.ts = sessions.first_ts
      AND hits.@entry = sessions.@entry
)
SELECT count(*)
FROM sessions FULL JOIN computed USING (session_no) LEFT JOIN entries USING (session_no)
WHERE entries.session_no IS NULL
   OR (sessions.site_uuid, sessions.site_uuid) IS DISTINCT FROM (computed.site_uuid, computed.last_site_uuid)
   OR sessions.first_ts IS DISTINCT FROM computed.first_ts
   OR sessions.last_ts IS DISTINCT FROM computed.last_ts
   OR sessions.pageviews IS DISTINCT FROM computed.pageviews
   OR (sessions.statuses IS NOT NULL AND (
       sessions.statuses <> computed.statuses
       OR sessions.@fact IS DISTINCT FROM computed.@fact
   ))
