-- Finds these sessions among those with a hit in the time.
SELECT session_key, session_no, first_ts
FROM sessions
WHERE first_ts <= $until AND last_ts >= $since
  AND site_uuid >= $first_site AND site_uuid <= $last_site
  AND session_key IN (SELECT unnest($keys::UUID[]))
