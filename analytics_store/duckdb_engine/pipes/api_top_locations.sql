-- Sessions by location: a session with several counts under each.
SELECT location, count(DISTINCT session_no) AS visits
FROM counted_hits
GROUP BY location
ORDER BY visits DESC, location
LIMIT $limit OFFSET $skip
