-- Sessions by source.
SELECT source, count(*) AS visits
FROM wanted_sessions
GROUP BY source
ORDER BY visits DESC, source
LIMIT $limit OFFSET $skip
