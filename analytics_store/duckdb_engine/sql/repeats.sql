-- Finds these event_ids among the hits of the time.
SELECT DISTINCT site_uuid, event_key::VARCHAR
FROM hits
WHERE ts >= $since AND ts <= $until
  AND site_uuid >= $first_site AND site_uuid <= $last_site
  AND event_key IN (SELECT unnest($keys::UUID[]))
