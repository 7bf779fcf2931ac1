-- Sessions by {column}, which the pipe names: a session whose hits differ counts under each value.
SELECT {column}, count(*) AS visits
FROM (
    SELECT {column} FROM told_sessions  -- if not only_hits_tell
    UNION ALL  -- if not only_hits_tell
    SELECT {column}
    FROM (
        SELECT DISTINCT session_no, {column}
        FROM counted_hits
        WHERE session_no IN (SELECT session_no FROM open_sessions)  -- if not only_hits_tell
    )
)
GROUP BY {column}
ORDER BY visits DESC, {column}
LIMIT $limit OFFSET $skip
