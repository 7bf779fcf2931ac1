-- Sessions by device.
SELECT device, count(*) AS visits
FROM wanted_sessions
GROUP BY device
ORDER BY visits DESC, device
LIMIT $limit OFFSET $skip
