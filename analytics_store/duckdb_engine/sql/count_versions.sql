-- Counts the rows of Ghost's automations, with every version. Only the names are read.
SELECT count(*) FROM automations
