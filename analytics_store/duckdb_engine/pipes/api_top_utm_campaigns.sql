-- Sessions by utm_campaign; those without one are not listed.
SELECT utm_campaign, count(*) AS visits
FROM wanted_sessions
WHERE utm_campaign <> ''
GROUP BY utm_campaign
ORDER BY visits DESC, utm_campaign
LIMIT $limit OFFSET $skip
