-- Sessions by browser: a session with several counts under each.
SELECT browser, count(DISTINCT session_no) AS visits
FROM counted_hits
GROUP BY browser
ORDER BY visits DESC, browser
LIMIT $limit OFFSET $skip
