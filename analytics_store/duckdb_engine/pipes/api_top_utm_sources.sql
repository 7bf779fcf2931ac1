-- Sessions by utm_source; those without one are not listed.
SELECT utm_source, count(*) AS visits
FROM wanted_sessions
WHERE utm_source <> ''
GROUP BY utm_source
ORDER BY visits DESC, utm_source
LIMIT $limit OFFSET $skip
