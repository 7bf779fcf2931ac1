-- Sessions by os: a session with several counts under each.
SELECT os, count(DISTINCT session_no) AS visits
FROM counted_hits
GROUP BY os
ORDER BY visits DESC, os
LIMIT $limit OFFSET $skip
