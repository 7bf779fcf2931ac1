-- Which of these sessions are here already, and since when? One look through 16 bytes a session.
SELECT session_key, session_no, first_ts
FROM sessions
WHERE session_key IN (SELECT unnest($session_keys::UUID[]))
