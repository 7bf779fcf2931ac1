-- Which of these event_ids are here already, near the times that they carry?
SELECT DISTINCT site_uuid, event_key
FROM hits
WHERE ts >= $first::TIMESTAMP - INTERVAL 1 DAY AND ts <= $last::TIMESTAMP + INTERVAL 1 DAY
  AND event_key IN (SELECT unnest($event_keys::UUID[]))
