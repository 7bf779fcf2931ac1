-- Sessions by utm_term; those without one are not listed.
SELECT utm_term, count(*) AS visits
FROM wanted_sessions
WHERE utm_term <> ''
GROUP BY utm_term
ORDER BY visits DESC, utm_term
LIMIT $limit OFFSET $skip
