-- Sessions by os: a session with several counts under each.
SELECT os, count(*) AS visits
FROM (
    SELECT os FROM told_sessions  -- if not only_hits_tell
    UNION ALL  -- if not only_hits_tell
    SELECT os
    FROM (
        SELECT DISTINCT session_no, os
        FROM counted_hits
        WHERE session_no IN (SELECT session_no FROM open_sessions)  -- if not only_hits_tell
    )
)
GROUP BY os
ORDER BY visits DESC, os
LIMIT $limit OFFSET $skip
