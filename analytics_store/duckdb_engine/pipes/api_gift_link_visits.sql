-- Counts the uses of each gift link, with the time of the last.
SELECT
    gift_link,
    count(DISTINCT session_no) AS visits,
    count(*) AS views,
    strftime(max(ts), '%Y-%m-%d %H:%M:%S') AS last_seen
FROM hits
WHERE site_uuid = $site_uuid AND ts >= $since AND ts < $until AND gift_link <> ''
  AND post_uuid = $post_uuid  -- if post_uuid
  AND gift_link = $gift_link  -- if gift_link
GROUP BY gift_link
ORDER BY visits DESC, gift_link
