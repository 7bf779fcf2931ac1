-- What every web endpoint means by its filters: the hits that meet the hit filters, and the sessions that qualify.
WITH wanted_hits AS (
    SELECT * FROM hits
    WHERE site_uuid = $site_uuid AND ts >= $since AND ts < $until
      AND ($member_statuses IS NULL OR list_contains($member_statuses, member_status))
      AND ($location IS NULL OR location = $location)
      AND ($pathname IS NULL OR pathname = $pathname)
      AND ($post_uuid IS NULL OR post_uuid = $post_uuid)
      AND ($os IS NULL OR os = $os)
      AND ($browser IS NULL OR browser = $browser)
      AND ($has_gift_link IS NULL OR (gift_link <> '') = $has_gift_link)
),
-- Sessions that were there in the range; with a session filter those that began in it and meet it.
sessions_met AS (
    SELECT * FROM sessions
    WHERE site_uuid = $site_uuid AND first_ts < $until AND last_ts >= $since
      AND (NOT $any_session_filter OR first_ts >= $since)
      AND ($source IS NULL OR source = $source)
      AND ($device IS NULL OR device = $device)
      AND ($utm_source IS NULL OR utm_source = $utm_source)
      AND ($utm_medium IS NULL OR utm_medium = $utm_medium)
      AND ($utm_campaign IS NULL OR utm_campaign = $utm_campaign)
      AND ($utm_term IS NULL OR utm_term = $utm_term)
      AND ($utm_content IS NULL OR utm_content = $utm_content)
),
-- A session that began or ended in the range has a hit in it: only hit filters, and sessions that stretch over the
-- whole range, make it necessary to look at the hits.
wanted_sessions AS (
    SELECT * FROM sessions_met
    WHERE NOT $any_hit_filter AND (first_ts >= $since OR last_ts < $until)
    UNION ALL
    SELECT * FROM sessions_met
    WHERE ($any_hit_filter OR (first_ts < $since AND last_ts >= $until))
      AND session_no IN (SELECT session_no FROM wanted_hits)
),
-- What is counted hit by hit.
counted_hits AS (
    SELECT * FROM wanted_hits WHERE NOT $any_session_filter
    UNION ALL
    SELECT * FROM wanted_hits WHERE $any_session_filter AND session_no IN (SELECT session_no FROM sessions_met)
)
