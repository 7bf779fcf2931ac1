-- Numbers new sessions in the order of time: sessions adjacent in time have adjacent numbers, which compress well.
SELECT (SELECT coalesce(max(session_no), 0) FROM sessions) + 1 + range FROM range($count)
