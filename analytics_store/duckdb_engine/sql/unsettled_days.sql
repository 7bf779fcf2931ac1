-- Finds the newest day that was not examined. The first day is left out: retention changes it.
SELECT max(range)::DATE
FROM range((SELECT min(first_ts)::DATE + 1 FROM sessions)::TIMESTAMP, $last::TIMESTAMP + INTERVAL 1 DAY, INTERVAL 1 DAY)
WHERE range::DATE NOT IN (SELECT day FROM examined_days)
