-- Sessions with a hit in the last minutes.
SELECT count(DISTINCT session_no) AS active_visitors
FROM hits
WHERE site_uuid = $site_uuid AND ts >= $since
  AND post_uuid = $post_uuid  -- if post_uuid
  AND (gift_link <> '') = $has_gift_link  -- if has_gift_link
