-- Computes the facts of some sessions of an earlier version from their hits.
UPDATE sessions SET
    statuses = learnt.statuses
    , @fact = learnt.@fact
FROM (
    SELECT
        session_no,
        bit_or(status_bit(member_status)) AS statuses
        , if(min(@fact) = max(@fact), min(@fact), NULL) AS @fact
    FROM hits
    WHERE session_no IN (SELECT session_no FROM sessions WHERE statuses IS NULL ORDER BY session_no LIMIT $sessions)
    GROUP BY session_no
) AS learnt
WHERE sessions.session_no = learnt.session_no
