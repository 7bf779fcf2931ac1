-- Leaves the days of some sites to their hits again (one list for each column).
DELETE FROM page_days
WHERE (site_uuid, day) IN (SELECT (unnest($sites::VARCHAR[]), unnest($days::DATE[])));

DELETE FROM settled_days
WHERE (site_uuid, day) IN (SELECT (unnest($sites::VARCHAR[]), unnest($days::DATE[])));

DELETE FROM examined_days WHERE day IN (SELECT unnest($days::DATE[]));
