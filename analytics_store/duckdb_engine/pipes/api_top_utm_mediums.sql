-- Sessions by utm_medium; those without one are not listed.
SELECT utm_medium, count(*) AS visits
FROM wanted_sessions
WHERE utm_medium <> ''
GROUP BY utm_medium
ORDER BY visits DESC, utm_medium
LIMIT $limit OFFSET $skip
