-- Defines the filters of every web endpoint: the hits that meet the hit filters, and the sessions that qualify.
WITH wanted_hits AS (
    SELECT * FROM hits
    WHERE site_uuid = $site_uuid AND ts >= $since AND ts < $until
      AND ($member_statuses IS NULL OR list_contains($member_statuses, member_status))
      AND ($@filter IS NULL OR @filter = $@filter)
      AND ($has_gift_link IS NULL OR (gift_link <> '') = $has_gift_link)
),
-- Sessions in the range; with a session filter only those that began in the range and meet the filter.
sessions_met AS (
    SELECT * FROM sessions
    WHERE site_uuid = $site_uuid AND first_ts < $until AND last_ts >= $since
      AND (NOT $any_session_filter OR first_ts >= $since)
      AND ($@entry IS NULL OR @entry = $@entry)
),
-- A session that began or ended in the range has a hit in it. So the hits are read only for hit filters, and for
-- sessions that span the whole range.
wanted_sessions AS (
    SELECT * FROM sessions_met
    WHERE NOT $any_hit_filter AND (first_ts >= $since OR last_ts < $until)
    UNION ALL
    SELECT * FROM sessions_met
    WHERE ($any_hit_filter OR (first_ts < $since AND last_ts >= $until))
      AND session_no IN (SELECT session_no FROM wanted_hits)
),
-- Hits of the endpoints that count hit by hit.
counted_hits AS (
    SELECT * FROM wanted_hits WHERE NOT $any_session_filter
    UNION ALL
    SELECT * FROM wanted_hits WHERE $any_session_filter AND session_no IN (SELECT session_no FROM sessions_met)
)
