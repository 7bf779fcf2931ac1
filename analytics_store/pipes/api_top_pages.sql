-- Sessions by page.
SELECT if(post_uuid = 'undefined', '', post_uuid) AS post_uuid, pathname, count(DISTINCT session_no) AS visits
FROM counted_hits
WHERE $is_post IS NULL OR (post_type = 'post') = $is_post
GROUP BY ALL
ORDER BY visits DESC, pathname, post_uuid
LIMIT $limit OFFSET $skip
