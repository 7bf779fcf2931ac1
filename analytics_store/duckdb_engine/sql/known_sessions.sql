-- Finds these sessions among those in the table; reads 16 bytes a session.
SELECT session_key, session_no, first_ts
FROM sessions
WHERE session_key IN (SELECT unnest($session_keys::UUID[]))
