-- Sessions by post, of all time.
SELECT post_uuid, count(DISTINCT session_no) AS visits
FROM hits
WHERE site_uuid = $site_uuid AND list_contains($post_uuids, post_uuid)
GROUP BY post_uuid
ORDER BY visits DESC, post_uuid
