-- Finds these event_ids among the hits within a day of their timestamps.
SELECT DISTINCT site_uuid, event_key
FROM hits
WHERE ts >= $first::TIMESTAMP - INTERVAL 1 DAY AND ts <= $last::TIMESTAMP + INTERVAL 1 DAY
  AND event_key IN (SELECT unnest($event_keys::UUID[]))
