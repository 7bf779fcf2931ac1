-- Sessions by os: one that shows several counts under each.
SELECT os, count(DISTINCT session_no) AS visits
FROM counted_hits
GROUP BY os
ORDER BY visits DESC, os
LIMIT $limit OFFSET $skip
