-- Numbers for new sessions, in the order of time: neighbours in time lie together and pack well.
SELECT (SELECT coalesce(max(session_no), 0) FROM sessions) + 1 + range FROM range($count)
