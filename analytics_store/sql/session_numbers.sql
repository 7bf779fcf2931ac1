-- Numbers for new sessions, in the order of time: neighbours in time lie together and pack well.
SELECT nextval('session_numbers') FROM range($count)
