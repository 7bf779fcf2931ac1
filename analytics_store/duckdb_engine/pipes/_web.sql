-- Defines the filters of every web endpoint: the hits that meet the hit filters, and the sessions that qualify.
WITH wanted_hits AS (
    SELECT * FROM hits
    WHERE site_uuid = $site_uuid AND ts >= $since AND ts < $until
      AND ($member_statuses IS NULL OR list_contains($member_statuses, member_status))
      AND ($@filter IS NULL OR @filter = $@filter)
      AND ($has_gift_link IS NULL OR (gift_link <> '') = $has_gift_link)
),
-- Sessions with hits on both sides of an edge of the days that the query names. Names without a version count their
-- hits between the edges only; for names with _v2 the edges lie beyond all hits.
edge_sessions AS (
    SELECT session_no FROM sessions
    WHERE site_uuid = $site_uuid AND first_ts < $since_edge AND last_ts >= $since_edge
    UNION
    SELECT session_no FROM sessions
    WHERE site_uuid = $site_uuid AND first_ts < $until_edge AND last_ts >= $until_edge
),
cut_sessions AS (
    SELECT
        session_no,
        min(ts) AS first_ts,
        max(ts) AS last_ts,
        count(*) AS pageviews,
        arg_min(struct_pack(
            ts
            , @entry
        ), ts) AS entry
    FROM hits
    WHERE site_uuid = $site_uuid AND ts >= $since_edge AND ts < $until_edge
      AND session_no IN (SELECT session_no FROM edge_sessions)
    GROUP BY session_no
),
asked_sessions AS (
    SELECT
        session_no, first_ts, last_ts, pageviews
        , @entry
    FROM sessions
    WHERE site_uuid = $site_uuid AND first_ts >= $since_edge AND last_ts < $until_edge
    UNION ALL
    SELECT
        session_no, first_ts, last_ts, pageviews
        , entry.@entry
    FROM cut_sessions
),
-- Sessions in the range; for names with _v2, and with a session filter, only those that began in the range.
sessions_met AS (
    SELECT * FROM asked_sessions
    WHERE first_ts < $until AND last_ts >= $since
      AND (NOT $only_begun OR first_ts >= $since)
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
    SELECT * FROM wanted_hits WHERE NOT $only_begun
    UNION ALL
    SELECT * FROM wanted_hits WHERE $only_begun AND session_no IN (SELECT session_no FROM sessions_met)
)
