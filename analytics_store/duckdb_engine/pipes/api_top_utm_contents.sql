-- Sessions by utm_content; those without one are not listed.
SELECT utm_content, count(*) AS visits
FROM wanted_sessions
WHERE utm_content <> ''
GROUP BY utm_content
ORDER BY visits DESC, utm_content
LIMIT $limit OFFSET $skip
