-- Defines the filters of every web endpoint: the hits that meet the hit filters, and the sessions that qualify.
WITH wanted_hits AS MATERIALIZED (  -- if hits_used_twice
WITH wanted_hits AS NOT MATERIALIZED (  -- if not hits_used_twice
    SELECT * FROM hits
    WHERE site_uuid = $site_uuid AND ts >= $since AND ts < $until
      AND list_contains($member_statuses, member_status)  -- if member_statuses
      AND @filter = $@filter  -- if @filter
      AND (gift_link <> '') = $has_gift_link  -- if has_gift_link
),
-- A session is told by its row if the days of the query do not cut it, and if its columns alone show that a hit in the
-- range meets all hit filters. A column that is null was not the same for all hits, or is not known. A session that began
-- or ended in the range has a hit in it.
told_sessions AS NOT MATERIALIZED (
    SELECT * FROM sessions
    WHERE site_uuid = $site_uuid
      AND first_ts >= $since  -- if told_if_begun
      AND last_ts >= $since  -- if not told_if_begun
      AND last_ts < $until  -- if told_if_ended
      AND first_ts < $until  -- if not told_if_ended
      AND (first_ts >= $since OR last_ts < $until)  -- if told_by_an_end
      AND statuses & $statuses <> 0  -- if statuses
      AND @fact = $@fact  -- if @fact
      AND @fact IS NOT NULL  -- if told_by_@fact
      AND @entry = $@entry  -- if @entry
      AND session_no IN (SELECT session_no FROM wanted_hits)  -- if only_hits_tell
),
-- All other sessions are computed from their hits between the days that the query names.
open_sessions AS NOT MATERIALIZED (
    SELECT session_no FROM sessions
    WHERE site_uuid = $site_uuid AND first_ts < $until AND last_ts >= $since
      AND (
          false
          OR first_ts < $since  -- if open_if_earlier
          OR last_ts >= $until  -- if told_if_ended
          OR first_ts < $since AND last_ts >= $until  -- if told_by_an_end
          OR statuses IS NULL  -- if statuses
          OR @fact IS NULL  -- if told_by_@fact
      )
      AND (statuses IS NULL OR statuses & $statuses <> 0)  -- if statuses
      AND (@fact IS NULL OR @fact = $@fact)  -- if @fact
),
computed_sessions AS NOT MATERIALIZED (
    SELECT
        session_no,
        min(ts) AS first_ts,
        max(ts) AS last_ts,
        count(*) AS pageviews
        , arg_min(@entry, ts) AS @entry  -- if needs_@entry
    FROM hits
    WHERE site_uuid = $site_uuid
      AND ts >= $since_edge  -- if since_edge
      AND ts < $until_edge  -- if until_edge
      AND session_no IN (SELECT session_no FROM open_sessions)
    GROUP BY session_no
    HAVING bool_or(  -- if hits_decide
        ts >= $since AND ts < $until  -- if hits_decide
        AND list_contains($member_statuses, member_status)  -- if member_statuses
        AND @filter = $@filter  -- if @filter
        AND (gift_link <> '') = $has_gift_link  -- if has_gift_link
    )  -- if hits_decide
),
wanted_sessions AS NOT MATERIALIZED (
    SELECT
        session_no, first_ts, last_ts, pageviews
        , @entry  -- if needs_@entry
    FROM told_sessions
    UNION ALL
    SELECT
        session_no, first_ts, last_ts, pageviews
        , @entry  -- if needs_@entry
    FROM computed_sessions
    WHERE true
      AND first_ts >= $since  -- if only_begun
      AND @entry = $@entry  -- if @entry
),
-- Hits of the endpoints that count hit by hit.
counted_hits AS NOT MATERIALIZED (
    SELECT * FROM wanted_hits
    WHERE true
      AND session_no IN (SELECT session_no FROM wanted_sessions)  -- if only_begun
)
