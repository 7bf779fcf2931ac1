-- Sessions by location: a session with several counts under each.
SELECT location, count(*) AS visits
FROM (
    SELECT location FROM told_sessions  -- if not only_hits_tell
    UNION ALL  -- if not only_hits_tell
    SELECT location
    FROM (
        SELECT DISTINCT session_no, location
        FROM counted_hits
        WHERE session_no IN (SELECT session_no FROM open_sessions)  -- if not only_hits_tell
    )
)
GROUP BY location
ORDER BY visits DESC, location
LIMIT $limit OFFSET $skip
