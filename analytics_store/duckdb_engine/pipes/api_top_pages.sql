-- Sessions by page.
SELECT
    any_value(if(post_uuid = 'undefined', '', post_uuid)) AS post_uuid,
    any_value(pathname) AS pathname,
    count(DISTINCT session_no) AS visits
FROM counted_hits
WHERE (post_type = 'post') = $is_post  -- if is_post
-- Grouping by the two texts takes three times as long; of a million million pages two would share a hash of 64 bits.
GROUP BY hash(if(post_uuid = 'undefined', '', post_uuid), pathname)
ORDER BY visits DESC, pathname, post_uuid
LIMIT $limit OFFSET $skip
