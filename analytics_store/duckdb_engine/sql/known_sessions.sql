-- Finds these sessions among those with a hit in the time, by their places in the list.
SELECT place, session_no, first_ts
FROM sessions
JOIN (SELECT unnest($keys::UUID[]) AS session_key, unnest(range(len($keys))) AS place) USING (session_key)
WHERE first_ts <= $until AND last_ts >= $since
  AND site_uuid >= $first_site AND site_uuid <= $last_site
