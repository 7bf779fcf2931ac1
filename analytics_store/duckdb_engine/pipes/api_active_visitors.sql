-- Sessions with a hit in the last minutes.
SELECT count(DISTINCT session_no) AS active_visitors
FROM hits
WHERE site_uuid = $site_uuid AND ts >= $since
  AND ($post_uuid IS NULL OR post_uuid = $post_uuid)
  AND ($has_gift_link IS NULL OR (gift_link <> '') = $has_gift_link)
