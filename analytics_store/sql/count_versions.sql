-- How many rows of Ghost's automations are there, every version counted? The names alone are read.
SELECT count(*) FROM automations
