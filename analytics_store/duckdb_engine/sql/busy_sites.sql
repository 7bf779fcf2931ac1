-- Lists the sites on which many sessions began on a day, without those that are settled.
SELECT site_uuid
FROM sessions
WHERE first_ts >= $day::TIMESTAMP AND first_ts < $day::TIMESTAMP + INTERVAL 1 DAY
  AND site_uuid NOT IN (SELECT site_uuid FROM settled_days WHERE day = $day::DATE)
GROUP BY site_uuid
HAVING count(*) >= $least
