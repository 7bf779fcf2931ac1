-- Defines the filters of every web endpoint: the hits that meet the hit filters, and the sessions that qualify.
WITH wanted_hits AS NOT MATERIALIZED (
    SELECT * FROM hits
    WHERE site_uuid = $site_uuid AND ts >= $since AND ts < $until
      AND list_contains($member_statuses, member_status)  -- if member_statuses
      AND @filter = $@filter  -- if @filter
      AND (gift_link <> '') = $has_gift_link  -- if has_gift_link
),
-- Sessions in the range that may qualify. A session is told by its row if the days of the query do not cut it, and if
-- its columns alone show that a hit in the range meets all hit filters. A column that is null was not the same for all
-- hits, or is not known. A session that began or ended in the range has a hit in it.
possible_sessions AS NOT MATERIALIZED (
    SELECT
        *,
        (first_ts >= $since OR last_ts < $until)
        AND first_ts >= $since_edge  -- if since_edge
        AND last_ts < $until_edge  -- if until_edge
        AND first_ts >= $since AND last_ts < $until  -- if any_hit_filter
        AND statuses IS NOT NULL  -- if statuses
        AND @fact IS NOT NULL  -- if told_by_@fact
        AS is_told
    FROM sessions
    WHERE site_uuid = $site_uuid AND first_ts < $until AND last_ts >= $since
      AND (statuses IS NULL OR statuses & $statuses <> 0)  -- if statuses
      AND (@fact IS NULL OR @fact = $@fact)  -- if @fact
),
told_sessions AS NOT MATERIALIZED (
    SELECT * FROM possible_sessions
    WHERE is_told
      AND first_ts >= $since  -- if only_begun
      AND @entry = $@entry  -- if @entry
      AND session_no IN (SELECT session_no FROM wanted_hits)  -- if only_hits_tell
),
-- All other sessions are computed from their hits between the days that the query names.
open_sessions AS MATERIALIZED (
    SELECT session_no FROM possible_sessions WHERE NOT is_told
),
computed_sessions AS NOT MATERIALIZED (
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
    WHERE site_uuid = $site_uuid
      AND ts >= $since_edge  -- if since_edge
      AND ts < $until_edge  -- if until_edge
      AND session_no IN (SELECT session_no FROM open_sessions)
    GROUP BY session_no
    HAVING bool_or(
        ts >= $since AND ts < $until
        AND list_contains($member_statuses, member_status)  -- if member_statuses
        AND @filter = $@filter  -- if @filter
        AND (gift_link <> '') = $has_gift_link  -- if has_gift_link
    )
),
wanted_sessions AS NOT MATERIALIZED (
    SELECT
        session_no, first_ts, last_ts, pageviews
        , @entry
    FROM told_sessions
    UNION ALL
    SELECT
        session_no, first_ts, last_ts, pageviews
        , entry.@entry
    FROM computed_sessions
    WHERE true
      AND first_ts >= $since  -- if only_begun
      AND entry.@entry = $@entry  -- if @entry
),
-- Hits of the endpoints that count hit by hit.
counted_hits AS NOT MATERIALIZED (
    SELECT * FROM wanted_hits
    WHERE true
      AND session_no IN (SELECT session_no FROM wanted_sessions)  -- if only_begun
)
