-- Sessions by browser: a session with several counts under each.
SELECT browser, count(*) AS visits
FROM (
    SELECT browser FROM told_sessions  -- if not only_hits_tell
    UNION ALL  -- if not only_hits_tell
    SELECT browser
    FROM (
        SELECT DISTINCT session_no, browser
        FROM counted_hits
        WHERE session_no IN (SELECT session_no FROM open_sessions)  -- if not only_hits_tell
    )
)
GROUP BY browser
ORDER BY visits DESC, browser
LIMIT $limit OFFSET $skip
